/** Where a room reports what a person should know: details first, then one sentence. Never a secret. */
export type Log = {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
};
