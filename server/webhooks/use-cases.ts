import type { EventListInput, EventListResult } from '../../shared/events.ts';
import type {
  DeliveryListInput,
  DeliveryListResult,
  ReplayInput,
  ReplayResult,
  WebhookDelivery,
} from '../../shared/webhook-deliveries.ts';
import type {
  CreatedEndpoint,
  CreateEndpointInput,
  EndpointListInput,
  EndpointListResult,
  UpdateEndpointInput,
  WebhookEndpoint,
} from '../../shared/webhooks.ts';
import { listDeliveries } from './deliveries.ts';
import { readId, type WebhookCaller, type WebhookDeps } from './deps.ts';
import { createEndpoint, deleteEndpoint, rotateSecret, updateEndpoint } from './endpoints.ts';
import { listEndpoints, readEndpoint } from './list-endpoints.ts';
import { listEvents } from './list-events.ts';
import { replayDelivery, replayEvents, testEndpoint } from './replay.ts';

type ById = { id: string };

/** Everything that can be asked about events and webhooks; ids as the wire shows them. */
export type WebhookUseCases = {
  listEvents(accountId: string, input: EventListInput): Promise<EventListResult>;
  list(accountId: string, input: EndpointListInput): Promise<EndpointListResult>;
  get(accountId: string, input: ById): Promise<WebhookEndpoint>;
  listDeliveries(accountId: string, input: DeliveryListInput): Promise<DeliveryListResult>;
  create(caller: WebhookCaller, input: CreateEndpointInput): Promise<CreatedEndpoint>;
  update(caller: WebhookCaller, input: UpdateEndpointInput): Promise<WebhookEndpoint>;
  delete(caller: WebhookCaller, input: ById): Promise<void>;
  test(caller: WebhookCaller, input: ById): Promise<WebhookDelivery>;
  rotateSecret(caller: WebhookCaller, input: ById): Promise<CreatedEndpoint>;
  replay(caller: WebhookCaller, input: ReplayInput): Promise<ReplayResult>;
  replayDelivery(caller: WebhookCaller, input: ById): Promise<WebhookDelivery>;
};

/** Binds the use cases to what they work with, and those that write to the transaction in which they end. */
export function webhookUseCases(
  given: Omit<WebhookDeps, 'commit'>,
  commit: WebhookDeps['commit'] = given.db.transactionOn,
): WebhookUseCases {
  const deps = { ...given, commit };
  return {
    listEvents: (accountId, input) => listEvents(deps.db, accountId, input),
    list: (accountId, input) => listEndpoints(deps, accountId, input),
    get: async (accountId, { id }) =>
      readEndpoint(deps.db.orm.em.fork(), accountId, readId('whk', id), deps.clock.now()),
    listDeliveries: (accountId, input) => listDeliveries(deps, accountId, input),
    create: (caller, input) => createEndpoint(deps, caller, input),
    update: (caller, input) => updateEndpoint(deps, caller, input),
    delete: (caller, input) => deleteEndpoint(deps, caller, input),
    test: (caller, input) => testEndpoint(deps, caller, input),
    rotateSecret: (caller, input) => rotateSecret(deps, caller, input),
    replay: (caller, input) => replayEvents(deps, caller, input),
    replayDelivery: (caller, input) => replayDelivery(deps, caller, input),
  };
}
