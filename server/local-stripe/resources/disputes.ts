import { closeDispute } from '../disputes.ts';
import { listRoute } from '../list.ts';
import { bool, mergeMetadata, metadata, params, text } from '../params.ts';
import { type Route, route } from '../route.ts';

/** Disputes. Banks open and decide them: see the hooks under /_sandbox. Closing one here accepts the loss. */
export const disputeRoutes: Route[] = [
  route('GET', '/v1/disputes/:id', params({}), (world, _given, id) => world.get('dispute', id)),
  route(
    'POST',
    '/v1/disputes/:id',
    params({
      evidence: params({
        uncategorized_text: text.optional(),
        product_description: text.optional(),
      }).optional(),
      metadata: metadata.optional(),
      submit: bool.optional(),
    }),
    (world, given, id) => {
      const before = world.get('dispute', id);
      const { evidence } = given;
      const submitted = evidence !== undefined && given.submit !== false;
      return world.change(
        'dispute',
        id,
        {
          metadata: mergeMetadata(before.metadata, given.metadata),
          evidence: {
            ...before.evidence,
            uncategorized_text: evidence?.uncategorized_text ?? before.evidence.uncategorized_text,
            product_description: evidence?.product_description ?? before.evidence.product_description,
          },
          evidence_details: {
            ...before.evidence_details,
            has_evidence: before.evidence_details.has_evidence || evidence !== undefined,
            submission_count: before.evidence_details.submission_count + (submitted ? 1 : 0),
            submission_method: submitted ? 'manual' : before.evidence_details.submission_method,
          },
          status: submitted && before.status === 'needs_response' ? 'under_review' : before.status,
        },
        'charge.dispute.updated',
      );
    },
  ),
  route('POST', '/v1/disputes/:id/close', params({}), (world, _given, id) => closeDispute(world, id, 'lost')),
  listRoute(
    'dispute',
    '/v1/disputes',
    { charge: text.optional(), payment_intent: text.optional() },
    (dispute, { charge, payment_intent }) =>
      (charge === undefined || dispute.charge === charge) &&
      (payment_intent === undefined || dispute.payment_intent === payment_intent),
  ),
];
