/** Tells the parent where this process listens, answers its questions, and ends when the parent does. */
export function serve(url: string, close: () => Promise<void>): void {
  process.on('message', (asked) =>
    process.send?.(asked === 'cpu' ? { cpuMs: cpuMs() } : { memory: memory() }),
  );
  process.on('disconnect', () => void close().then(() => process.exit(0)));
  process.send?.({ url });
}

function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}

function memory(): { heapBytes: number; rssBytes: number; peakRssBytes: number } {
  if (!globalThis.gc) throw new Error('start this process with --expose-gc');
  // Twice, because what finalizers let go of is collected by the next round only.
  globalThis.gc();
  globalThis.gc();
  return {
    heapBytes: process.memoryUsage().heapUsed,
    rssBytes: process.memoryUsage().rss,
    peakRssBytes: process.resourceUsage().maxRSS * 1_024,
  };
}
