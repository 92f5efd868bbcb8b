import { randomBytes } from 'node:crypto';
import type { World } from './world.ts';

/** What goes wrong with the next webhooks, on order. */
export type WebhookFault =
  | { readonly kind: 'drop' }
  | { readonly kind: 'duplicate' }
  | { readonly kind: 'bad_signature' }
  /** Held back until a later event has reached the endpoint (10 seconds at most). */
  | { readonly kind: 'reorder' }
  | { readonly kind: 'delay'; readonly seconds: number };

export interface WebhookFaultOrder {
  readonly fault: WebhookFault;
  /** Event types it is for; null for any. */
  readonly types: readonly string[] | null;
  /** How many more deliveries it spoils. */
  readonly times: number;
}

/** Orders a fault for the next deliveries; answers its id. */
export function orderWebhookFault(world: World, order: WebhookFaultOrder): string {
  const id = `fault_${randomBytes(8).toString('hex')}`;
  world.hidden.put('webhook_fault', id, order);
  return id;
}

/** Takes the first fault that is ordered for this type of event, if any; one time of it is used up. */
export function takeWebhookFault(world: World, type: string): WebhookFault | null {
  for (const { id, value } of world.hidden.all<WebhookFaultOrder>('webhook_fault')) {
    if (value.types !== null && !value.types.includes(type)) continue;
    if (value.times > 1) world.hidden.put('webhook_fault', id, { ...value, times: value.times - 1 });
    else world.hidden.remove('webhook_fault', id);
    return value.fault;
  }
  return null;
}
