import { it } from 'vitest';
import { half } from './drawn.ts';

const { name, timeout, play } = half(1);

it(name, play, timeout);
