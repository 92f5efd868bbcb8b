import { expect, it } from 'vitest';
import { eventually, localStripeWithClient, refusal } from './support/api.ts';

const JAN = 1_767_225_600;

it('advances a test clock day by day, advancing first and ready then, and tells both', async () => {
  const { localStripe, stripe } = await localStripeWithClient();
  const rung: number[] = [];
  localStripe.world.onWake('test', (_world, _subject, at) => rung.push(at));
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: JAN, name: 'January' });
  for (const day of [3, 1, 40]) localStripe.world.wake('test', `day ${day}`, JAN + day * 86_400, clock.id);
  const advancing = await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: JAN + 30 * 86_400 });
  expect(advancing).toMatchObject({
    status: 'advancing',
    frozen_time: JAN,
    status_details: { advancing: { target_frozen_time: JAN + 30 * 86_400 } },
  });
  await eventually(
    'ready',
    async () => (await stripe.testHelpers.testClocks.retrieve(clock.id)).status === 'ready',
  );
  expect((await stripe.testHelpers.testClocks.retrieve(clock.id)).frozen_time).toBe(JAN + 30 * 86_400);
  expect(rung).toEqual([JAN + 86_400, JAN + 3 * 86_400]);
  const events = await stripe.events.list({ type: 'test_helpers.test_clock.*' });
  expect(events.data.map(({ type }) => type.split('.').at(-1))).toEqual(['ready', 'advancing', 'created']);
  expect(await refusal(stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: JAN }))).toMatchObject({
    param: 'frozen_time',
  });
});

it('stamps a customer of a clock and its events with the clock’s time, and lists it only with its clock', async () => {
  const { stripe } = await localStripeWithClient();
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: JAN });
  const customer = await stripe.customers.create({ test_clock: clock.id });
  expect(customer.created).toBe(JAN);
  const [event] = (await stripe.events.list({ type: 'customer.created' })).data;
  expect(event?.created).toBe(JAN);
  expect((await stripe.customers.list()).data).toHaveLength(0);
  expect((await stripe.customers.list({ test_clock: clock.id })).data).toHaveLength(1);
  expect(await stripe.testHelpers.testClocks.del(clock.id)).toMatchObject({ deleted: true });
  expect(await stripe.customers.retrieve(customer.id)).toMatchObject({ deleted: true });
  expect(await refusal(stripe.testHelpers.testClocks.retrieve(clock.id))).toMatchObject({ statusCode: 404 });
});

it('marks a clock as failed when something due on the way fails, and goes on serving', async () => {
  const { localStripe, stripe } = await localStripeWithClient();
  localStripe.world.onWake('broken', () => {
    throw new Error('broken on purpose');
  });
  const clock = await stripe.testHelpers.testClocks.create({ frozen_time: JAN });
  localStripe.world.wake('broken', 'x', JAN + 60, clock.id);
  await stripe.testHelpers.testClocks.advance(clock.id, { frozen_time: JAN + 3_600 });
  await eventually(
    'internal_failure',
    async () => (await stripe.testHelpers.testClocks.retrieve(clock.id)).status === 'internal_failure',
  );
});
