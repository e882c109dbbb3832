export default {
  extensions: ['ts'],
  files: ['test/**/*.test.ts', '!test/bench/**'],
  concurrency: 2,
  timeout: '5m',
};
