import { setFlagsFromString } from 'node:v8';

/**
 * Lets what lives in the heap grow by half before all of it is collected. V8 alone lets it triple: under load that is
 * 100 MB which nobody needs any more. To be called once the service has started, because a start makes what stays.
 */
export function collectEarly(): void {
  setFlagsFromString('--heap-growing-percent=50');
}
