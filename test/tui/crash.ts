/** A dashboard in a program that fails while it is shown; for terminal.test.ts. */
import { showDashboard } from '../../tui/dashboard.ts';

const how = process.argv[2];
const source = { ended: false, next: () => [] };
setTimeout(() => {
  if (how === 'throw') throw new Error('the program failed');
  if (how === 'reject') void Promise.reject(new Error('the program failed'));
  if (how === 'exit') process.exit(3);
}, 1500);
const { stdin, stdout } = process;
await showDashboard({ source }, { stdin, stdout, palette: 'none' });
