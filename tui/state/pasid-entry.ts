export * from '../../trace/state/pasid-entry.ts';
