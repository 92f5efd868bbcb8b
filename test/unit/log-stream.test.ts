import { spawnSync } from 'node:child_process';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { gatherLines } from '../../server/http/log-stream.ts';

const MODULE = new URL('../../server/http/log.ts', import.meta.url).href;

it('writes the lines of one turn together and in their order, and those of the next by themselves', async () => {
  const written: string[] = [];
  const stream = gatherLines({ write: (lines) => void written.push(lines) }, { on: () => process });
  stream.write('one\n');
  stream.write('two\n');
  expect(written).toEqual([]);
  await turn();
  expect(written).toEqual(['one\ntwo\n']);
  stream.write('three\n');
  await turn();
  await turn();
  expect(written).toEqual(['one\ntwo\n', 'three\n']);
});

it.each([
  ['that exits in the same turn', 'process.exit(3)', 3],
  ['that an error nobody caught ends', 'throw new Error("unforeseen")', 1],
  ['that comes to its end', '', 0],
])('loses no line of a process %s', (_, end, status) => {
  const code = `import { createLog } from ${JSON.stringify(MODULE)};
const log = createLog({ level: 'info' });
for (let at = 0; at < 2_000; at++) log.info({ at }, 'a line');
${end}`;
  const ended = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
  expect(ended.status).toBe(status);
  const lines = ended.stdout.trim().split('\n');
  expect(lines.map((line) => JSON.parse(line).at)).toEqual(Array.from({ length: 2_000 }, (__, at) => at));
});
