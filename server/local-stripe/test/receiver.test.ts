import { afterEach, beforeEach, expect, it } from 'vitest';
import { type LocalStripe, startLocalStripe } from '../local-stripe.ts';
import { receivedWebhooks } from '../receiver.ts';

let localStripe: LocalStripe;
const NOW = Date.parse('2026-05-10T12:00:00Z');

beforeEach(async () => {
  localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:', clock: () => NOW });
});
afterEach(() => localStripe.close());

const send = (mode: string, signal?: AbortSignal) =>
  fetch(`${localStripe.url}/receiver/${mode}`, {
    method: 'POST',
    headers: {
      'content-type': 'application/json',
      'x-driftstack-event-type': 'test.ping',
      'x-driftstack-event-id': 'evt_1',
      'x-driftstack-signature': 't=1,v1=ab',
    },
    body: '{"text":"<script>"}',
    ...(signal && { signal }),
  });

it('answers as its address says, and keeps what arrived, newest first', async () => {
  expect((await send('200')).status).toBe(200);
  expect((await send('500')).status).toBe(500);
  expect((await send('410')).status).toBe(410);
  expect((await send('else')).status).toBe(404);
  expect(receivedWebhooks(localStripe.world)).toEqual(
    ['410', '500', '200'].map((mode) => ({
      at: '2026-05-10T12:00:00.000Z',
      mode,
      type: 'test.ping',
      eventId: 'evt_1',
      signature: 't=1,v1=ab',
      body: '{"text":"<script>"}',
    })),
  );
});

it('answers slowly or never where asked to, and stops at once all the same', async () => {
  const slow = send('slow').catch(() => null);
  await expect(send('never', AbortSignal.timeout(300))).rejects.toThrow('timeout');
  expect(
    receivedWebhooks(localStripe.world)
      .map(({ mode }) => mode)
      .sort(),
  ).toEqual(['never', 'slow']);
  const startedAt = performance.now();
  await localStripe.close();
  // The slow answer comes after eight seconds.
  expect(performance.now() - startedAt).toBeLessThan(6_000);
  await slow;
  localStripe = await startLocalStripe({ port: 0, dataPath: ':memory:' });
});

it('shows its addresses and what arrived on the console, as text', async () => {
  await send('200');
  const page = await (await fetch(`${localStripe.url}/console`)).text();
  expect(page).toContain(`${localStripe.url}/receiver/never`);
  expect(page).toContain('evt_1');
  expect(page).toContain('&#60;script&#62;');
  expect(page).not.toContain('"<script>"');
});

it('keeps no more than thirty', async () => {
  for (let i = 0; i < 33; i += 1) await send('200');
  expect(receivedWebhooks(localStripe.world)).toHaveLength(30);
});
