/** Mistakes that the accelerator can be told to make, by the name that `vsva run --bug` takes. */
export const DEVICE_BUGS = {
  'device-keeps-translations': 'an invalidation is confirmed and nothing dropped',
  'device-drops-one-page': 'of an invalidation of many pages the first is dropped',
} as const;
export type DeviceBug = keyof typeof DEVICE_BUGS;
