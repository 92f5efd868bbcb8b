/** What waits for its time. */
export interface Queue<T> {
  push(item: T): void;
  pop(): T | undefined;
  peek(): T | undefined;
}

/** A binary heap by `at`; equal times come out in the order they were pushed. */
export function earliestFirst<T extends { readonly at: number }>(): Queue<T> {
  const heap: { item: T; order: number }[] = [];
  let pushed = 0;
  const before = (a: number, b: number): boolean => {
    const [x, y] = [heap[a], heap[b]];
    if (!x || !y) return false;
    return x.item.at !== y.item.at ? x.item.at < y.item.at : x.order < y.order;
  };
  const swap = (a: number, b: number): void => {
    const [x, y] = [heap[a], heap[b]];
    if (x && y) [heap[a], heap[b]] = [y, x];
  };
  return {
    push(item) {
      let at = heap.push({ item, order: pushed++ }) - 1;
      for (let up = (at - 1) >> 1; at > 0 && before(at, up); at = up, up = (at - 1) >> 1) swap(at, up);
    },
    pop() {
      const top = heap[0];
      const last = heap.pop();
      if (top && last && heap.length > 0) {
        heap[0] = last;
        for (let at = 0; ; ) {
          const [left, right] = [2 * at + 1, 2 * at + 2];
          let least = at;
          if (before(left, least)) least = left;
          if (before(right, least)) least = right;
          if (least === at) break;
          swap(at, least);
          at = least;
        }
      }
      return top?.item;
    },
    peek: () => heap[0]?.item,
  };
}
