import { expect, it } from 'vitest';
import { drawBars } from '../bench/chart.ts';
import { statementReader } from '../bench/counting-proxy.ts';
import { drawGoals } from '../bench/goals.ts';
import { answerLength, requestBytes, times } from '../bench/load.ts';
import { median, percentile, slope, spread } from '../bench/statistics.ts';
import { figure, formatTable, spreadOf } from '../bench/table.ts';
import { original, retold } from '../bench/virtual.ts';

it('takes the middle value, and between two the mean', () => {
  expect(median([3, 100, 1])).toBe(3);
  expect(median([4, 1, 3, 100])).toBe(3.5);
  expect(() => median([])).toThrow('median of nothing');
});

it('takes the smallest value that the share of all values does not exceed', () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  expect(percentile(hundred, 0.5)).toBe(50);
  expect(percentile(hundred, 0.99)).toBe(99);
  expect(percentile(hundred, 1)).toBe(100);
  expect(percentile([7], 0.01)).toBe(7);
  expect(() => percentile([], 0.5)).toThrow('percentile of nothing');
});

it('finds the growth along noisy points', () => {
  expect(slope([0, 1, 2, 3].map((x) => ({ x, y: 5 * x + (x % 2) })))).toBeCloseTo(5.2);
  expect(() => slope([{ x: 1, y: 1 }])).toThrow('two points');
});

it('sees where an answer ends, whatever the case of its headers', () => {
  const answer = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1');
  expect(answerLength(answer)).toBe(answer.length - 'HTTP/1.1'.length);
  expect(answerLength(answer.subarray(0, 40))).toBeNull();
  expect(answerLength(answer.subarray(0, 20))).toBeNull();
  expect(() => answerLength(Buffer.from('HTTP/1.1 204 No Content\r\n\r\n'))).toThrow('content-length');
});

it('sees where an answer in chunks ends', () => {
  const answer = Buffer.from(
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nHTTP/1.1',
  );
  expect(answerLength(answer)).toBe(answer.length - 'HTTP/1.1'.length);
  expect(answerLength(answer.subarray(0, -'\r\nHTTP/1.1'.length))).toBeNull();
});

it('says the middle of all rounds with the least and the most', () => {
  expect(spreadOf(spread([0.3, 0.1, 0.2]))).toBe('0.20 (0.10–0.30)');
});

it('tells the same about another customer, and finds out whom it was about', () => {
  const answer = '{"id":"sub_1Ab","customer":"cus_9Xy","price":"price_1Ab","object":"subscription"}';
  const other = retold(answer, 7);
  expect(JSON.parse(other)).toEqual({
    id: 'sub_1AbV00000007V',
    customer: 'cus_9XyV00000007V',
    price: 'price_1Ab',
    object: 'subscription',
  });
  expect(original(other)).toEqual({ text: answer, number: 7 });
  expect(original(answer)).toEqual({ text: answer, number: null });
});

it('draws what was reached and what was not', () => {
  const goal = { number: 1, what: 'a < b', goal: '0.8', measured: '0.9', isReached: true };
  const drawing = drawGoals([goal, { ...goal, isReached: false }], 'one run');
  expect(drawing).toContain('1  a &#60; b');
  expect(drawing.match(/class="reached"/g)).toHaveLength(1);
  expect(drawing.match(/class="missed"/g)).toHaveLength(1);
});

it('writes the length of a body in bytes', () => {
  const bytes = requestBytes({ method: 'POST', path: '/x', headers: {}, body: '{"a":"é"}' });
  expect(bytes.toString()).toContain('content-length: 10\r\n\r\n{"a":"é"}');
});

it('sends so many requests and no more', () => {
  const [a, b] = [Buffer.from('a'), Buffer.from('b')];
  const next = times(3, [a, b]);
  expect([next(), next(), next(), next()]).toEqual([a, b, a, null]);
});

it('counts statements in a stream of PostgreSQL messages, however it is cut', () => {
  const message = (type: string, body: string) => {
    const length = Buffer.alloc(4);
    length.writeInt32BE(body.length + 4);
    return Buffer.concat([Buffer.from(type), length, Buffer.from(body)]);
  };
  const stream = Buffer.concat([
    message('', 'startup'),
    message('Q', 'begin\0'),
    message('P', 'parse'),
    message('E', 'execute'),
    message('Q', 'commit\0'),
  ]);
  const seen: (string | null)[] = [];
  const read = statementReader((text) => seen.push(text));
  for (let at = 0; at < stream.length; at += 3) read(stream.subarray(at, at + 3));
  expect(seen).toEqual(['begin', null, 'commit']);
});

it('draws the longest bar for the largest value and escapes what it writes', () => {
  const svg = drawBars({
    title: 'a < b',
    unit: 'per second',
    bars: [
      { label: 'floor', value: 200, isFloor: true },
      { label: 'ours & theirs', value: 100, remark: '0.50 of the floor' },
    ],
  });
  const widths = [...svg.matchAll(/<rect [^>]*width="(\d+)" [^>]*class="(?:bar|floor)"/g)].map(([, width]) =>
    Number(width),
  );
  expect(widths[0]).toBe((widths[1] ?? 0) * 2);
  expect(svg).toContain('a &#60; b');
  expect(svg).toContain('ours &#38; theirs');
  expect(svg).toContain('100 · 0.50 of the floor');
});

it('aligns figures to the right under their columns', () => {
  const table = formatTable({
    title: 'T',
    columns: ['', 'ms'],
    rows: [
      ['first', '1.00'],
      ['b', '12.0'],
    ],
  });
  expect(table.split('\n').slice(2)).toEqual(['         ms', '-----  ----', 'first  1.00', 'b      12.0']);
  expect([figure(1234.5), figure(12.34), figure(0.625)]).toEqual(['1,235', '12.3', '0.63']);
});
