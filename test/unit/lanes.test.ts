import { expect, it } from 'vitest';
import { createLanes, createPlaces } from '../../server/stripe/lanes.ts';

/** A run that ends when the test says so. */
function runs() {
  const open = new Map<string, () => void>();
  const begun: string[] = [];
  const work = (name: string) => async () => {
    begun.push(name);
    await new Promise<void>((resolve) => open.set(name, resolve));
    return name;
  };
  return { begun, work, end: (name: string) => open.get(name)?.() };
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
/** Lanes by name alone; what comes behind a colon is what is wanted of it. */
function lanesOf(atOnce: number, turn = 60_000, place = 60_000) {
  const lanes = createLanes<string>();
  const places = createPlaces(atOnce);
  return (name: string, work: () => Promise<string>) => {
    const [key = '', share = ''] = name.split(':');
    return lanes({ key, share, places, patienceMs: { turn, place } }, work);
  };
}

it('lets as many go side by side as there are lanes, and the rest in the order they came', async () => {
  const lanes = lanesOf(2);
  const { begun, work, end } = runs();
  const all = ['a', 'b', 'c', 'd'].map((name) => lanes(name, work(name)));
  await turn();
  expect(begun).toEqual(['a', 'b']);
  end('b');
  await turn();
  expect(begun).toEqual(['a', 'b', 'c']);
  end('a');
  await turn();
  expect(begun).toEqual(['a', 'b', 'c', 'd']);
  for (const name of ['c', 'd']) end(name);
  expect(await Promise.all(all)).toEqual(['a', 'b', 'c', 'd']);
});

it('never lets two go about the same thing, and gives all who wait one next run', async () => {
  const lanes = lanesOf(5);
  const { begun, work, end } = runs();
  const first = lanes('a', work('first'));
  await turn();
  const second = lanes('a', work('second'));
  const third = lanes('a', work('third'));
  await turn();
  expect(begun).toEqual(['first']);
  end('first');
  expect(await first).toBe('first');
  await turn();
  expect(begun).toEqual(['first', 'second']);
  // What came after the second run had begun is not what it looked at.
  const fourth = lanes('a', work('fourth'));
  end('second');
  expect(await Promise.all([second, third])).toEqual(['second', 'second']);
  await turn();
  end('fourth');
  expect(await fourth).toBe('fourth');
});

it('refuses those who have waited for their patience, and leaves the run under way alone', async () => {
  const lanes = lanesOf(5, 20);
  const { begun, work, end } = runs();
  const hanging = lanes('a', work('hanging'));
  await turn();
  const waiting = ['one', 'two'].map((name) => lanes('a', work(name)));
  for (const refused of waiting) await expect(refused).rejects.toThrow('still under way');
  expect(begun).toEqual(['hanging']);
  end('hanging');
  expect(await hanging).toBe('hanging');
  const after = lanes('a', work('after'));
  await turn();
  end('after');
  expect(await after).toBe('after');
});

it('gives the lane of a run that fails to the next one', async () => {
  const lanes = lanesOf(1);
  const failing = lanes('a', async () => {
    throw new Error('it fails');
  });
  const next = lanes('b', async () => 'b');
  await expect(failing).rejects.toThrow('it fails');
  expect(await next).toBe('b');
  expect(await lanes('a', async () => 'again')).toBe('again');
});

it('gives those who want something else of the same thing a run of their own, one after the other', async () => {
  const lanes = lanesOf(5);
  const { begun, work, end } = runs();
  const all = ['a:x', 'a:y', 'a:z'].map((name) => lanes(name, work(name)));
  const shared = lanes('a:y', work('never'));
  for (const [count, name] of ['a:x', 'a:y', 'a:z'].entries()) {
    await expect.poll(() => begun.length).toBe(count + 1);
    end(name);
  }
  expect(await Promise.all(all)).toEqual(['a:x', 'a:y', 'a:z']);
  expect(await shared).toBe('a:y');
});

it('lets nobody pass the run under way because one who waited for it has given up', async () => {
  const lanes = lanesOf(5, 20);
  const { begun, work, end } = runs();
  const hanging = lanes('a', work('hanging'));
  await turn();
  await expect(lanes('a:x', work('x'))).rejects.toThrow('still under way');
  await expect(lanes('a:y', work('y'))).rejects.toThrow('still under way');
  expect(begun).toEqual(['hanging']);
  end('hanging');
  await hanging;
});

it('refuses whoever finds no place in time, and gives a place to nobody who has left', async () => {
  const lanes = lanesOf(1, 60_000, 20);
  const { begun, work, end } = runs();
  const hanging = lanes('a', work('hanging'));
  await turn();
  await expect(lanes('b', work('b'))).rejects.toThrow('still under way');
  end('hanging');
  await hanging;
  const after = lanes('c', work('c'));
  await turn();
  expect(begun).toEqual(['hanging', 'c']);
  end('c');
  expect(await after).toBe('c');
});
