import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** The simulated world: it reads no wall clock, no chance but the seeded one, and prints nothing. */
const MODEL = ['devices/**', 'guest/**', 'host/**', 'trace/*.ts', 'trace/catalogue/**', 'vmm/**'];
const NOT_MODEL = ['host/bridge/**', 'vmm/cli/**'];

const OUTSIDE_WORLD = [
  'Buffer',
  'Date',
  'clearImmediate',
  'clearInterval',
  'clearTimeout',
  'console',
  'crypto',
  'fetch',
  'performance',
  'process',
  'queueMicrotask',
  'setImmediate',
  'setInterval',
  'setTimeout',
];

export default defineConfig(
  { ignores: ['node_modules/**', 'coverage/**'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  { files: ['**/*.js'], extends: [tseslint.configs.strict] },
  {
    files: ['**/*.ts'],
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: {
      parserOptions: {
        project: [
          './tsconfig.json',
          './trace/viewer/tsconfig.json',
          './test/trace/viewer/tsconfig.json',
        ],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      // A typed array's element is `number | undefined` under noUncheckedIndexedAccess; where the
      // code says `words[i]!` the index is known to be in range.
      '@typescript-eslint/no-non-null-assertion': 'off',
      // Register values and addresses are printed everywhere; numbers, bigints, booleans print well.
      '@typescript-eslint/restrict-template-expressions': [
        'error',
        { allowNumber: true, allowBoolean: true },
      ],
      // A kernel thread is a generator; one that happens not to block still has that type.
      'require-yield': 'off',
      // `while (true)` around a `yield` is how a kernel thread waits.
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: true },
      ],
      // Arrow functions that forward a void call read as intended.
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidOperator: true },
      ],
      // A name that begins with `_` is a parameter that this implementation ignores.
      '@typescript-eslint/no-unused-vars': [
        'error',
        {
          // `using span = trace.span(...)` is used by being disposed.
          ignoreUsingDeclarations: true,
          argsIgnorePattern: '^_',
          destructuredArrayIgnorePattern: '^_',
        },
      ],
      // A default branch that throws handles the rest of a union.
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      eqeqeq: 'error',
    },
  },
  {
    files: MODEL,
    ignores: NOT_MODEL,
    rules: {
      'no-restricted-globals': ['error', ...OUTSIDE_WORLD],
      'no-restricted-properties': ['error', { object: 'Math', property: 'random' }],
    },
  },
);
