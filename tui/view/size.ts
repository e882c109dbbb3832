/** Room that a view has. */
export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** Below this nothing useful fits. */
export const LEAST: Size = { columns: 60, rows: 20 };

/** What does not scroll: the two lines on top and the footer. */
export const FRAME_ROWS = 3;

/** `wide` has room for a second pane, `narrow` leaves out what can be missed. */
export type Breadth = 'narrow' | 'normal' | 'wide';

export const breadthOf = (columns: number): Breadth =>
  columns >= 120 ? 'wide' : columns >= 80 ? 'normal' : 'narrow';

/** Rows of the list in the trace view; its cause pane is below it, or beside it where it is wide. */
export const traceListRows = ({ columns, rows }: Size): number =>
  breadthOf(columns) === 'wide' ? rows - 1 : Math.max(4, rows - 1 - causeRows(rows));

/** Rows of the cause pane below the list, its heading included. */
export const causeRows = (rows: number): number => Math.max(6, Math.floor(rows * 0.4));
