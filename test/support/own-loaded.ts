import { writeFileSync } from 'node:fs';
import { registerHooks } from 'node:module';

/** Loaded before a process of ours (`--import`): at its end it writes down which files it has read, one a line. */
const loaded: string[] = [];
registerHooks({
  load(url, context, next) {
    loaded.push(url);
    return next(url, context);
  },
});
process.on('exit', () => {
  const to = process.env['LOADED_TO'];
  if (to !== undefined) writeFileSync(to, loaded.join('\n'));
});
