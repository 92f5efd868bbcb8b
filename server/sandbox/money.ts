const WITHOUT_MINOR_UNIT = new Set(
  'bif clp djf gnf jpy kmf krw mga pyg rwf ugx vnd vuv xaf xof xpf'.split(' '),
);

/** Making a formatter costs a hundred times what using it does. */
const formats = new Map<string, Intl.NumberFormat>();

/** An amount in the currency's smallest unit as a person writes it: `$99.00`. */
export function money(amount: number, currency: string): string {
  const whole = WITHOUT_MINOR_UNIT.has(currency.toLowerCase()) ? amount : amount / 100;
  let format = formats.get(currency);
  if (!format) {
    format = new Intl.NumberFormat('en-US', { style: 'currency', currency });
    formats.set(currency, format);
  }
  return format.format(whole);
}
