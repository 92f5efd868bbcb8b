import { afterAll, inject } from 'vitest';
import { writeCounts } from './states.ts';

/** After all of a file's tests, so that nothing is lost with a process that the run ends. */
afterAll(() => writeCounts(inject('statesFolder')));
