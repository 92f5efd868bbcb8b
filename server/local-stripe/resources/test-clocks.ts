import { listRoute } from '../list.ts';
import { emptyable, params, text, timestamp } from '../params.ts';
import { type Route, route } from '../route.ts';
import { advanceTestClock, createTestClock, deleteTestClock } from '../test-clocks.ts';

/** Test clocks: a customer on one lives in its time. */
export const testClockRoutes: Route[] = [
  route(
    'POST',
    '/v1/test_helpers/test_clocks',
    params({ frozen_time: timestamp, name: emptyable(text.max(300)).optional() }),
    (world, given) => createTestClock(world, given.frozen_time, given.name ?? null),
  ),
  route('GET', '/v1/test_helpers/test_clocks/:id', params({}), (world, _given, id) =>
    world.get('test_helpers.test_clock', id),
  ),
  route(
    'POST',
    '/v1/test_helpers/test_clocks/:id/advance',
    params({ frozen_time: timestamp }),
    (world, { frozen_time: to }, id) => advanceTestClock(world, id, to),
  ),
  route('DELETE', '/v1/test_helpers/test_clocks/:id', params({}), (world, _given, id) =>
    deleteTestClock(world, id),
  ),
  listRoute('test_helpers.test_clock', '/v1/test_helpers/test_clocks', {}, () => true),
];
