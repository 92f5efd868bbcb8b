import { describe, expect, it } from 'vitest';
import { ConfigError, readConfig } from '../../server/config.ts';

const mistakesOf = (env: Record<string, string>): readonly string[] => {
  try {
    readConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.mistakes;
    throw error;
  }
  return [];
};

const live = { STRIPE_SECRET_KEY: 'sk_live_1234567890', DATABASE_URL: 'postgres://u:p@db/billing' };

describe('readConfig', () => {
  it('starts everything of its own when nothing is given', () => {
    const config = readConfig({});
    expect(config.database).toEqual({ kind: 'embedded' });
    expect(config.stripe).toEqual({ kind: 'local', port: { number: 12111, fixed: false } });
    expect(config.email).toEqual({ kind: 'mailbox' });
    expect([...config.roles]).toEqual(['api', 'webhooks', 'worker']);
    expect(config.dataDir).toMatch(/\.data$/);
  });

  it('takes an empty variable for an absent one', () => {
    expect(readConfig({ PORT: '', DATABASE_URL: ' ' }).database.kind).toBe('embedded');
  });

  it('starts nothing of the local Stripe when database and Stripe are given', () => {
    const config = readConfig({
      DATABASE_URL: 'postgres://u:p@127.0.0.1/billing',
      STRIPE_SECRET_KEY: 'sk_test_1234567890',
      STRIPE_API_BASE: 'http://127.0.0.1:9',
    });
    expect([config.database.kind, config.stripe.kind, config.email.kind]).toEqual(['url', 'real', 'off']);
  });

  it.each([
    ['sk_test_1234567890', undefined, 20],
    ['sk_live_1234567890', undefined, 80],
    ['rk_live_1234567890', undefined, 80],
    ['sk_test_1234567890', '100', 100],
  ])(
    'makes no more calls with %s and STRIPE_READS_PER_SECOND=%s than %i a second',
    (key, perSecond, expected) => {
      const config = readConfig({
        DATABASE_URL: 'postgres://u:p@127.0.0.1/billing',
        STRIPE_SECRET_KEY: key,
        ...(perSecond && { STRIPE_READS_PER_SECOND: perSecond }),
      });
      expect(config.stripe).toMatchObject({ callsPerSecond: expected });
    },
  );

  it.each(['0', '-1', '1.5', 'many', '10000'])('refuses STRIPE_READS_PER_SECOND=%s', (perSecond) => {
    const [mistake] = mistakesOf({
      STRIPE_SECRET_KEY: 'sk_test_1234567890',
      STRIPE_READS_PER_SECOND: perSecond,
    });
    expect(mistake).toMatch(/^STRIPE_READS_PER_SECOND must be a whole number/);
  });

  it('refuses a limit of calls that nobody counts', () => {
    expect(mistakesOf({ STRIPE_READS_PER_SECOND: '50' })).toEqual([
      expect.stringMatching(/^STRIPE_READS_PER_SECOND is set without STRIPE_SECRET_KEY/),
    ]);
  });

  it('names every mistake at once, by variable, and repeats no value', () => {
    const mistakes = mistakesOf({
      PORT: '99999',
      DATABASE_URL: 'mysql://secret',
      STRIPE_SECRET_KEY: 'hunter2hunter2',
      ROLES: 'api,cook',
      LOG_LEVEL: 'loud',
      INTERNAL_API_TOKEN: 'short',
      EMAIL_FROM: 'nobody',
    });
    expect(mistakes.map((line) => line.split(' ')[0]).sort()).toEqual([
      'DATABASE_URL',
      'EMAIL_FROM',
      'INTERNAL_API_TOKEN',
      'LOG_LEVEL',
      'PORT',
      'ROLES',
      'STRIPE_SECRET_KEY',
    ]);
    expect(mistakes.join()).not.toMatch(/secret\b(?! or)|hunter2|99999|cook|loud|short/);
  });

  it.each<[string, Record<string, string>, RegExp]>([
    ['the embedded database', { STRIPE_SECRET_KEY: live.STRIPE_SECRET_KEY }, /^DATABASE_URL is missing/],
    [
      'an unencrypted Stripe',
      { ...live, STRIPE_API_BASE: 'http://127.0.0.1:12111' },
      /^STRIPE_API_BASE must be https/,
    ],
    [
      'the local Stripe (live Resend key)',
      { RESEND_API_KEY: 're_12345678' },
      /^RESEND_API_KEY is set without/,
    ],
  ])('refuses %s next to a live key', (_part, env, expected) => {
    expect(mistakesOf(env)).toEqual([expect.stringMatching(expected)]);
  });

  it('refuses halves of pairs', () => {
    expect(mistakesOf({ STRIPE_WEBHOOK_SECRETS: 'whsec_12345678' })).toHaveLength(1);
    expect(mistakesOf({ STRIPE_API_BASE: 'http://127.0.0.1:1' })).toHaveLength(1);
    expect(mistakesOf({ RESEND_BASE_URL: 'http://127.0.0.1:1' })).toHaveLength(1);
  });

  it.each<[string, RegExp | null]>([
    ['postgres://u:p@h', /^DATABASE_URL must name the database/],
    ['postgres://h:5432/', /^DATABASE_URL must name the database/],
    ['postgres://u:p%zz@h/d', /^DATABASE_URL holds a % .* %25$/],
    ['postgres://u%:p@h/d', /^DATABASE_URL holds a %/],
    ['postgres://u:p@h/d%', /^DATABASE_URL holds a %/],
    ['postgres://u:p@h/d?sslmode=verify_full', /^DATABASE_URL has a wrong sslmode: disable,/],
    ['postgres://u:p@h/d?sslmode=', /^DATABASE_URL has a wrong sslmode/],
    ['postgres://u:p%25zz@h/d?sslmode=verify-full', null],
    ['postgresql:///d?host=/run/postgresql', null],
  ])('says of DATABASE_URL %s what to write instead', (url, mistake) => {
    const lines = mistakesOf({ ...live, DATABASE_URL: url }).filter((line) =>
      line.startsWith('DATABASE_URL'),
    );
    expect(lines).toEqual(mistake === null ? [] : [expect.stringMatching(mistake)]);
  });

  it('tells a port that was asked for from one that may move', () => {
    expect(readConfig({ PORT: '8080' }).port).toEqual({ number: 8080, fixed: true });
    expect(readConfig({}).opsPort).toBeNull();
    expect(readConfig({ OPS_PORT: '9090' }).opsPort).toBe(9090);
    expect(() => readConfig({ OPS_PORT: 'x' })).toThrow('OPS_PORT must be a port number');
    expect(readConfig({}).port).toEqual({ number: 8080, fixed: false });
  });
});

it('reads the key of webhook secrets and the ports webhooks may use, and refuses what are none', () => {
  const key = Buffer.alloc(32, 9);
  const given = readConfig({ WEBHOOK_SECRET_KEY: key.toString('base64'), WEBHOOK_PORTS: '8443, 9443' });
  expect(given).toMatchObject({ webhookSecretKey: key, webhookPorts: [8443, 9443] });
  expect(readConfig({})).toMatchObject({
    webhookSecretKey: null,
    oldWebhookSecretKeys: [],
    webhookPorts: [],
  });
  const old = Buffer.alloc(32, 8);
  const list = [key, old].map((one) => one.toString('base64'));
  expect(readConfig({ WEBHOOK_SECRET_KEY: list.join(', ') })).toMatchObject({
    webhookSecretKey: key,
    oldWebhookSecretKeys: [old],
  });
  for (const env of [
    { WEBHOOK_SECRET_KEY: Buffer.alloc(31).toString('base64') },
    { WEBHOOK_SECRET_KEY: 'hunter2' },
    { WEBHOOK_SECRET_KEY: ',' },
    { WEBHOOK_SECRET_KEY: `${list[0]},hunter2` },
    { WEBHOOK_PORTS: '8443,x' },
    { WEBHOOK_PORTS: '65536' },
  ])
    expect(() => readConfig(env)).toThrow(Object.keys(env)[0]);
});

describe('what carries a secret or a mail', () => {
  const test = { STRIPE_SECRET_KEY: 'sk_test_1234567890' };
  const resend = { RESEND_API_KEY: 're_12345678' };

  it.each<[Record<string, string>, string | null]>([
    [{ ...live, ...resend, RESEND_BASE_URL: 'http://mail.example' }, 'RESEND_BASE_URL must be https'],
    [{ ...live, ...resend, RESEND_BASE_URL: 'http://127.0.0.1:12111' }, 'RESEND_BASE_URL must be https'],
    [{ ...live, STRIPE_API_BASE: 'http://127.0.0.1:12111' }, 'STRIPE_API_BASE must be https'],
    [{ ...test, ...resend, RESEND_BASE_URL: 'http://mail.example' }, 'RESEND_BASE_URL must be https'],
    [{ ...test, STRIPE_API_BASE: 'http://stripe.example' }, 'STRIPE_API_BASE must be https'],
    [{ ...test, ...resend, RESEND_BASE_URL: 'http://127.0.0.1:12111' }, null],
    [{ ...test, STRIPE_API_BASE: 'http://[::1]:12111' }, null],
    [{ ...live, ...resend, RESEND_BASE_URL: 'https://mail.example' }, null],
    [
      { ...test, STRIPE_API_BASE: 'https://user:pass@stripe.example' },
      'STRIPE_API_BASE must hold no user name',
    ],
    [{ ...test, ...resend, RESEND_BASE_URL: 'https://mail.example/?key=1' }, 'RESEND_BASE_URL must hold no'],
  ])('%j: %s', (env, expected) => {
    expect(mistakesOf(env)).toEqual(expected === null ? [] : [expect.stringContaining(expected)]);
  });

  const strange = ['é', '\0', ' ', '\n', '\u2028', '\x7f', '\u{1f511}'];
  it.each(strange)('holds no %j', (character) => {
    const long = 'a'.repeat(12) + character + 'b'.repeat(12);
    const given: Record<string, Record<string, string>> = {
      INTERNAL_API_TOKEN: {},
      STRIPE_SECRET_KEY: {},
      STRIPE_WEBHOOK_SECRETS: test,
      RESEND_API_KEY: test,
      DATABASE_URL: {},
      STRIPE_API_BASE: test,
      RESEND_BASE_URL: { ...test, ...resend },
    };
    const prefix: Record<string, string> = {
      STRIPE_SECRET_KEY: 'sk_test_',
      STRIPE_WEBHOOK_SECRETS: 'whsec_',
      RESEND_API_KEY: 're_',
      DATABASE_URL: 'postgres://u:p@h/',
      STRIPE_API_BASE: 'https://h.example/',
      RESEND_BASE_URL: 'https://h.example/',
    };
    for (const [name, others] of Object.entries(given)) {
      const mistakes = mistakesOf({ ...others, [name]: (prefix[name] ?? '') + long });
      expect(mistakes.length).toBeGreaterThan(0);
      for (const line of mistakes) expect(line).toMatch(new RegExp(`^${name} (?!.*aaaa)`));
    }
  });

  it('is a secret key, not the one for browsers', () => {
    expect(mistakesOf({ STRIPE_SECRET_KEY: 'pk_live_1234567890' })).toEqual([
      expect.stringMatching(/^STRIPE_SECRET_KEY is a publishable key/),
    ]);
  });

  it('has a sender of one line', () => {
    for (const from of ['a@b.test\r\nBcc: c@d.test', 'A\u2028 <a@b.test>', 'A\x07 <a@b.test>'])
      expect(mistakesOf({ EMAIL_FROM: from })).toContain(
        'EMAIL_FROM must be one line without control characters',
      );
  });
});

it('says which name was meant where one of ours is written otherwise and missing', () => {
  expect(mistakesOf({ STRIPE_SECRETKEY: 'sk_live_1234567890' })).toEqual([
    'STRIPE_SECRETKEY is not read: the name is STRIPE_SECRET_KEY',
  ]);
  expect(mistakesOf({ database_url: 'postgres://u:p@h/d' })).toEqual([
    'database_url is not read: the name is DATABASE_URL',
  ]);
  // Somebody else's, or beside the right one.
  expect(mistakesOf({ port: '1', Port: '2', STRIPE_API_KEY: 'sk_test_1234567890' })).toEqual([]);
  expect(mistakesOf({ data_dir: '/a', DATA_DIR: '/b' })).toEqual([]);
});
