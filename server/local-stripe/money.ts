// As docs.stripe.com/currencies counts them. What is in neither list has a minor unit of a hundredth.
const WITHOUT_MINOR_UNIT = new Set('bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf'.split(' '));
const OF_A_THOUSANDTH = new Set('bhd jod kwd omr tnd'.split(' '));
/** These had one once, and Stripe still counts in it: `500` is ISK 5. Of HUF and TWD it pays out no part of a unit. */
const OUT_OF_USE = new Set('huf isk twd ugx'.split(' '));

/** Making a formatter costs a hundred times what using it does. */
const formats = new Map<string, (amount: number) => string>();

/** An amount in the currency's smallest unit as a person writes it: `$99.00`. */
export function money(amount: number, currency: string): string {
  const code = currency.toLowerCase();
  const known = formats.get(code);
  if (known) return known(amount);
  const write = writerOf(code);
  formats.set(code, write);
  return write(amount);
}

function writerOf(code: string): (amount: number) => string {
  const decimals = WITHOUT_MINOR_UNIT.has(code) ? 0 : OF_A_THOUSANDTH.has(code) ? 3 : 2;
  const format = new Intl.NumberFormat('en-US', {
    style: 'currency',
    currency: code,
    minimumFractionDigits: decimals,
    maximumFractionDigits: decimals,
    trailingZeroDisplay: OUT_OF_USE.has(code) ? 'stripIfInteger' : 'auto',
  });
  return (amount) => format.format((amount || 0) / 10 ** decimals);
}
