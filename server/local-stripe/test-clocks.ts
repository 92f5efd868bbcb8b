import type Stripe from 'stripe';
import { invalidRequest } from './errors.ts';
import { deleteCustomer } from './resources/customers.ts';
import type { World } from './world.ts';

const DAY = 86_400;

/** Creates a clock that stands at `frozenTime` (unix seconds); tells test_helpers.test_clock.created. */
export function createTestClock(
  world: World,
  frozenTime: number,
  name: string | null,
): Stripe.TestHelpers.TestClock {
  const now = world.now();
  return world.add(
    'test_helpers.test_clock',
    {
      id: world.newId('test_helpers.test_clock'),
      object: 'test_helpers.test_clock',
      created: now,
      deletes_after: now + 30 * DAY,
      frozen_time: frozenTime,
      livemode: false,
      name,
      status: 'ready',
      status_details: {},
    },
    'test_helpers.test_clock.created',
  );
}

/** Starts to advance a clock. It is `advancing` until everything due by then has happened, then `ready`. */
export function advanceTestClock(world: World, id: string, to: number): Stripe.TestHelpers.TestClock {
  const clock = world.get('test_helpers.test_clock', id);
  if (clock.status !== 'ready')
    throw invalidRequest(`Test clock ${id} is ${clock.status}; advance it again once it is ready.`, {
      code: 'test_clock_not_ready',
    });
  if (to <= clock.frozen_time)
    throw invalidRequest(`A test clock only moves forward: frozen_time must be after ${clock.frozen_time}.`, {
      param: 'frozen_time',
    });
  const advancing = world.change('test_helpers.test_clock', id, {
    status: 'advancing',
    status_details: { advancing: { target_frozen_time: to } },
  });
  world.emit('test_helpers.test_clock.advancing', advancing);
  return advancing;
}

/** Deletes a clock with all its customers; tells test_helpers.test_clock.deleted. */
export function deleteTestClock(world: World, id: string): Stripe.TestHelpers.DeletedTestClock {
  const clock = world.get('test_helpers.test_clock', id);
  for (const customer of [...world.newestFirst('customer')])
    if (!customer.deleted && customer.test_clock === id) deleteCustomer(world, customer.id);
  world.emit('test_helpers.test_clock.deleted', clock);
  world.store.remove('test_helpers.test_clock', id);
  return { id, object: 'test_helpers.test_clock', deleted: true };
}

/**
 * Runs clocks that are advancing, also those a killed process left half way. Each runs a day at a time, so that the
 * server goes on answering while a year passes; a fault on the way goes to `onFailure`. Answers a function that stops
 * it.
 */
export function runTestClocks(world: World, onFailure: (error: unknown) => void): () => void {
  const running = new Map<string, NodeJS.Immediate>();
  const step = (id: string): void => {
    running.delete(id);
    const clock = world.find('test_helpers.test_clock', id);
    const target = clock?.status_details.advancing?.target_frozen_time;
    if (clock === undefined || target === undefined) return;
    const to = Math.min(target, clock.frozen_time + DAY);
    try {
      world.runUntil(to, id);
    } catch (error) {
      // As at Stripe, a clock whose advance failed is stuck, and says so, rather than half advanced without a word.
      const failed = world.change('test_helpers.test_clock', id, { status: 'internal_failure' });
      world.emit('test_helpers.test_clock.internal_failure', failed);
      onFailure(error);
      return;
    }
    if (!world.find('test_helpers.test_clock', id)) return;
    world.atomically(() => {
      if (to < target) return void world.change('test_helpers.test_clock', id, { frozen_time: to });
      const ready = world.change('test_helpers.test_clock', id, {
        frozen_time: to,
        status: 'ready',
        status_details: {},
      });
      world.emit('test_helpers.test_clock.ready', ready);
    });
    if (to < target) later(id);
  };
  const later = (id: string): void => {
    if (!running.has(id)) running.set(id, setImmediate(step, id));
  };
  world.onEvent((event) => {
    if (event.type === 'test_helpers.test_clock.advancing') later(event.data.object.id);
  });
  for (const clock of world.newestFirst('test_helpers.test_clock'))
    if (clock.status === 'advancing') later(clock.id);
  return () => {
    for (const immediate of running.values()) clearImmediate(immediate);
    running.clear();
  };
}
