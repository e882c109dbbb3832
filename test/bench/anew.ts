/** Modules loaded once more, so that what one benchmark has run does not shape the code of another. */
import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';

/** What is loaded anew: the model of the unit and the benches around it. */
const ANEW = /\/(devices\/vtd|test)\/[^?]*\.ts$/;

/** So that a mark may be used again. */
let times = 0;

/**
 * Loads a module under a mark, with all that it imports of `devices/vtd/` and `test/`. A line that
 * matches `without` is left out; Error when there is none.
 */
export async function importAnew(url: URL, mark: string, without?: RegExp): Promise<unknown> {
  const suffix = `?${mark}-${++times}`;
  let found = without === undefined;
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      const anew = context.parentURL?.endsWith(suffix) === true && ANEW.test(resolved.url);
      return anew ? { ...resolved, url: resolved.url + suffix } : resolved;
    },
    load(target, context, next) {
      if (!target.endsWith(suffix)) return next(target, context);
      const text = readFileSync(fileURLToPath(target.slice(0, -suffix.length)), 'utf8');
      found ||= without?.test(text) === true;
      const source = without === undefined ? text : text.replace(without, '');
      return { format: 'module-typescript', source, shortCircuit: true };
    },
  });
  try {
    const module: unknown = await import(url.href + suffix);
    if (!found) throw new Error(`no line matches ${String(without)}`);
    return module;
  } finally {
    hooks.deregister();
  }
}
