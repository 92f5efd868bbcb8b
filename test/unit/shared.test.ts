import { initTRPC } from '@trpc/server';
import fc from 'fast-check';
import { generateOpenApiDocument, type OpenApiMeta } from 'trpc-to-openapi';
import { expect, expectTypeOf, test } from 'vitest';
import { auditListInput, auditListResult } from '../../shared/audit.ts';
import {
  billingStateSchema,
  checkoutSessionInput,
  checkoutSessionResult,
  getStateInput,
  portalSessionInput,
  portalSessionResult,
  trialPackInput,
} from '../../shared/billing.ts';
import { BILLING_PERIODS, CATALOGUE, lookupKey, TIERS, TRIAL_PACK } from '../../shared/catalog.ts';
import { PROBLEMS, ProblemError, type ProblemSlug, problemSchema } from '../../shared/errors.ts';
import { formatId, ID_PREFIXES, parseId } from '../../shared/ids.ts';
import { SCOPES, type Scope, scopeAllows } from '../../shared/scopes.ts';
import { toWireTime, wireTimeSchema } from '../../shared/time.ts';

test('every tier is for sale in every period, and a year costs ten months', () => {
  expect(CATALOGUE).toHaveLength(TIERS.length * BILLING_PERIODS.length);
  expect(new Set(CATALOGUE.map((entry) => entry.lookupKey)).size).toBe(CATALOGUE.length);
  for (const tier of TIERS) {
    const [monthly, annual] = CATALOGUE.filter((entry) => entry.tier === tier);
    expect(annual?.amountCents).toBe(10 * (monthly?.amountCents ?? Number.NaN));
  }
  expect(CATALOGUE.find((entry) => entry.lookupKey === 'driftstack_api_builder_monthly')).toEqual({
    tier: 'api_builder',
    billingPeriod: 'monthly',
    lookupKey: 'driftstack_api_builder_monthly',
    amountCents: 9_900,
  });
  expectTypeOf(lookupKey('api_scale', 'annual')).toEqualTypeOf<'driftstack_api_scale_annual'>();
});

test('the trial pack buys 59,800 concurrent-seconds, which is $2.99 at $0.18 an hour', () => {
  const seconds = TRIAL_PACK.amountCents * TRIAL_PACK.secondsPerCent;
  expect(seconds).toBe(59_800);
  expect((seconds / 3_600) * 18).toBe(TRIAL_PACK.amountCents);
});

test('tiers rank by price', () => {
  const monthly = CATALOGUE.filter((entry) => entry.billingPeriod === 'monthly').map(
    (entry) => entry.amountCents,
  );
  expect(monthly).toEqual(monthly.toSorted((a, b) => a - b));
});

test('times on the wire are UTC to the second and never later than the moment itself', () => {
  expect(toWireTime(new Date('2026-05-01T02:00:00.999+02:00'))).toBe('2026-05-01T00:00:00Z');
  const range = {
    min: new Date('1970-01-01'),
    max: new Date('9999-12-31T23:59:59.999Z'),
    noInvalidDate: true,
  };
  fc.assert(
    fc.property(fc.date(range), (date) => {
      const text = toWireTime(date);
      expect(wireTimeSchema.parse(text)).toBe(text);
      const lost = date.getTime() - Date.parse(text);
      expect(lost).toBeGreaterThanOrEqual(0);
      expect(lost).toBeLessThan(1_000);
    }),
  );
});

test('an id is read only under its own prefix and only if it is a uuid', () => {
  fc.assert(
    fc.property(fc.uuid(), fc.constantFrom(...ID_PREFIXES), (uuid, prefix) => {
      expect(parseId(prefix, formatId(prefix, uuid))).toBe(uuid);
      expect(parseId(prefix, formatId(prefix, uuid).toUpperCase())).toBeNull();
      expect(parseId(prefix, uuid)).toBeNull();
      for (const other of ID_PREFIXES) {
        if (other !== prefix) expect(parseId(other, formatId(prefix, uuid))).toBeNull();
      }
    }),
  );
  const uuid = '01890a5d-ac96-774b-bcce-b302099a8057';
  expect(parseId('acc', `acc_${uuid.toUpperCase()}`)).toBe(uuid);
  for (const text of [
    `acc_${uuid}\n`,
    `acc_${uuid} `,
    `acc_{${uuid}}`,
    'acc_',
    'acc_1',
    `acc_acc_${uuid}`,
    '',
  ]) {
    expect(parseId('acc', text), JSON.stringify(text)).toBeNull();
  }
});

test.each<[Scope[], Scope, boolean]>([
  [['read'], 'read:billing', true],
  [['read'], 'read:audit', true],
  [['read'], 'admin:billing', false],
  [['write'], 'read:billing', false],
  [['write'], 'admin:billing', false],
  [['admin:billing'], 'admin:billing', true],
  [['admin:billing'], 'read:billing', false],
  [['read:billing'], 'read:billing', true],
  [['read:billing'], 'read:audit', false],
  [['read:billing'], 'read', false],
  [['read:webhooks', 'read:audit'], 'read:audit', true],
  [[], 'read:billing', false],
])('scopes %j for %s: %s', (granted, needed, allowed) => {
  expect(scopeAllows(granted, needed)).toBe(allowed);
});

test('account_owner covers every scope, and is covered by itself alone', () => {
  for (const scope of SCOPES) {
    expect(scopeAllows(['account_owner'], scope)).toBe(true);
    expect(scopeAllows([scope], 'account_owner')).toBe(scope === 'account_owner');
  }
});

test('a problem carries its type, status, stable code and flat extensions', () => {
  const error = new ProblemError('conflict', 'Already subscribed.', { code: 'already_subscribed' });
  expect(error.toProblem('req_1')).toEqual({
    type: 'https://errors.driftstack.dev/conflict',
    title: 'Conflict',
    status: 409,
    detail: 'Already subscribed.',
    instance: 'req_1',
    code: 'already_subscribed',
  });
  const outage = new ProblemError('internal', 'Try again.', {
    status: 503,
    retryAfterSeconds: 2,
    cause: error,
  });
  expect(outage.toProblem('req_2')).toEqual({
    type: 'https://errors.driftstack.dev/internal',
    title: 'Internal error',
    status: 503,
    detail: 'Try again.',
    instance: 'req_2',
    code: 'internal',
    retry_after_seconds: 2,
  });
  expect(new ProblemError('conflict', 'x', { idempotency_status: 'mismatch' }).toProblem('r')).toMatchObject({
    idempotency_status: 'mismatch',
  });
  expect(JSON.stringify(outage.toProblem('req_2'))).not.toContain('Already subscribed');
});

test('every problem fits the documented schema', () => {
  for (const slug of Object.keys(PROBLEMS) as ProblemSlug[]) {
    const problem = new ProblemError(slug, 'detail', { errors: [{ field: 'a', message: 'b' }] }).toProblem(
      'r',
    );
    expect(problemSchema.parse(problem)).toEqual(problem);
    expect(problem.status).toBe(PROBLEMS[slug].status);
  }
});

test('inputs name every field that is not theirs and do not change what is theirs', () => {
  const urls = {
    success_url: 'https://your.app/success?session_id={CHECKOUT_SESSION_ID}',
    cancel_url: 'https://your.app/cancel',
  };
  const input = { tier: 'api_builder', billing_period: 'monthly', ...urls };
  expect(checkoutSessionInput.parse(input)).toEqual(input);
  expect(checkoutSessionInput.parse({ tier: 'api_builder', billing_period: 'annual' })).toEqual({
    tier: 'api_builder',
    billing_period: 'annual',
  });
  for (const schema of [getStateInput, trialPackInput, portalSessionInput, auditListInput]) {
    expect(schema.safeParse({ account: 'acc_1' }).success).toBe(false);
    expect(schema.safeParse(undefined).success).toBe(true);
    for (const wrong of [null, [], 'x', 1]) expect(schema.safeParse(wrong).success).toBe(false);
  }
  const refused = [
    { ...input, tier: 'free' },
    { ...input, tier: 'enterprise' },
    { ...input, billing_period: 'weekly' },
    { ...input, quantity: 2 },
    { ...input, success_url: null },
    { ...input, cancel_url: `https://your.app/${'x'.repeat(2_048)}` },
    { billing_period: 'monthly' },
  ];
  for (const wrong of refused) expect(checkoutSessionInput.safeParse(wrong).success).toBe(false);
});

test('a list takes 1 to 100 entries, 50 if not said, and a cursor of at most 512 characters', () => {
  expect(auditListInput.parse({})).toEqual({ limit: 50 });
  expect(auditListInput.parse(undefined)).toEqual({ limit: 50 });
  for (const limit of [0, 101, 1.5, '50', -1])
    expect(auditListInput.safeParse({ limit }).success).toBe(false);
  expect(auditListInput.safeParse({ cursor: 'x'.repeat(512) }).success).toBe(true);
  expect(auditListInput.safeParse({ cursor: 'x'.repeat(513) }).success).toBe(false);
  expect(auditListInput.safeParse({ action: 'subscription.tier_changed' }).success).toBe(true);
  expect(auditListInput.safeParse({ action: "x' or 1=1" }).success).toBe(false);
});

test('the billing state is exactly the documented one', () => {
  const documented = {
    subscription: {
      id: 'sub_01890a5d-ac96-774b-bcce-b302099a8057',
      tier: 'api_builder',
      status: 'active',
      billing_period: 'monthly',
      current_period_start: '2026-05-01T00:00:00Z',
      current_period_end: '2026-06-01T00:00:00Z',
      cancel_at_period_end: false,
    },
    trial_pack: { active: false, credit_cents_remaining: 0, expires_at: null, redeemed: false },
  };
  expect(billingStateSchema.parse(documented)).toEqual(documented);
  expect(billingStateSchema.parse({ ...documented, subscription: null }).subscription).toBeNull();
  expect(billingStateSchema.safeParse({ ...documented, version: 1 }).success).toBe(false);
});

test('the OpenAPI document made of the schemas names, describes and exemplifies everything', () => {
  const t = initTRPC.meta<OpenApiMeta>().create();
  const get = (path: `/${string}`) => ({ openapi: { method: 'GET' as const, path } });
  const post = (path: `/${string}`) => ({ openapi: { method: 'POST' as const, path } });
  const never = () => expect.unreachable();
  const router = t.router({
    getState: t.procedure.meta(get('/state')).input(getStateInput).output(billingStateSchema).query(never),
    list: t.procedure.meta(get('/list')).input(auditListInput).output(auditListResult).query(never),
    checkout: t.procedure
      .meta(post('/checkout'))
      .input(checkoutSessionInput)
      .output(checkoutSessionResult)
      .mutation(never),
    pack: t.procedure.meta(post('/pack')).input(trialPackInput).output(checkoutSessionResult).mutation(never),
    portal: t.procedure
      .meta(post('/portal'))
      .input(portalSessionInput)
      .output(portalSessionResult)
      .mutation(never),
  });
  const document = generateOpenApiDocument(router, {
    title: 't',
    version: '1',
    baseUrl: 'http://localhost',
    defs: { Problem: problemSchema },
  });
  expect(Object.keys(document.components?.schemas ?? {})).toEqual(
    expect.arrayContaining([
      'AuditEntry',
      'AuditLogPage',
      'BillingPeriod',
      'BillingState',
      'CheckoutSession',
      'FieldError',
      'PortalSession',
      'Problem',
      'Subscription',
      'SubscriptionStatus',
      'Tier',
      'TrialPack',
    ]),
  );
  expect(undescribed(document)).toEqual([]);
});

/** Paths of all properties and parameters that say nothing about themselves. */
function undescribed(node: unknown, path = ''): string[] {
  if (typeof node !== 'object' || node === null) return [];
  if (path.includes('/error.')) return [];
  const missing: string[] = [];
  for (const [key, value] of Object.entries(node)) {
    const here = `${path}/${key}`;
    const isProperty = /\/properties$/.test(path) || /\/parameters$/.test(path);
    if (isProperty && !('$ref' in Object(value)) && !hasDescription(value)) missing.push(here);
    missing.push(...undescribed(value, here));
  }
  return missing;
}

/** The library leaves the description of a parameter in its schema. */
function hasDescription(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false;
  return 'description' in value || ('schema' in value && hasDescription(value.schema));
}
