/** `BENCH_QUICK=1`: tiny sizes, to see whether everything works; its figures say little. */
export const isQuick = (process.env['BENCH_QUICK'] ?? '') !== '';

/** The one in a whole run, the other in a quick one. */
export const sized = <T>(whole: T, quick: T): T => (isQuick ? quick : whole);

/** `BENCH_ACCOUNTS=100000`: how many accounts the larger database has; a million of them take minutes to insert. */
const LARGE = Number(process.env['BENCH_ACCOUNTS'] ?? sized(1_000_000, 10_000));
if (!Number.isSafeInteger(LARGE) || LARGE < 1_000) throw new Error('BENCH_ACCOUNTS must be 1000 or more');

/** What is measured is measured on databases of these sizes. */
export const SIZES: readonly number[] = [1_000, LARGE];
