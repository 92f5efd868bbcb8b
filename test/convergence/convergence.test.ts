import { it } from 'vitest';
import { half } from './drawn.ts';

const { name, timeout, play } = half(0);

it(name, play, timeout);
