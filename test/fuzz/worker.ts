/** Runs episodes beside the thread that watches them: one that hangs cannot say so itself. */
import { parentPort, workerData } from 'node:worker_threads';
import { describe } from './actions.ts';
import { episodeActions, episodeSeed, runEpisode } from './episode.ts';
import { minimise } from './minimise.ts';

/** What to run: the episodes of a seed from number 0 on, or one episode by its own seed. */
export interface Work {
  readonly seed: number;
  readonly episode: number | null;
  readonly episodes: number;
  /** Wall clock, ms since the epoch; no episode begins after it. */
  readonly until: number;
}

export interface Finding {
  readonly number: number;
  readonly seed: number;
  readonly problem: string;
  readonly program: readonly string[];
}

export type Message =
  | { readonly is: 'begun'; readonly number: number; readonly seed: number }
  | { readonly is: 'ended'; readonly calls: number; readonly succeeded: number }
  | { readonly is: 'finding'; readonly finding: Finding }
  | { readonly is: 'done' };

/** Shorter programs that are tried. */
const ATTEMPTS = 200;

function run({ seed, episode, episodes, until }: Work, say: (message: Message) => void): void {
  for (let number = 0; number < episodes; number++) {
    if (number > 0 && Date.now() >= until) break;
    const own = episode ?? episodeSeed(seed, number);
    say({ is: 'begun', number, seed: own });
    const { problem, calls, succeeded } = runEpisode(own);
    say({ is: 'ended', calls, succeeded });
    if (problem !== null) say({ is: 'finding', finding: explain(number, own, problem) });
    if (episode !== null) break;
  }
  say({ is: 'done' });
}

function explain(number: number, seed: number, problem: string): Finding {
  const kind = kindOf(problem);
  const shorter = minimise(
    episodeActions(seed),
    (list) => {
      const { problem: found } = runEpisode(seed, list);
      return found !== null && kindOf(found) === kind;
    },
    ATTEMPTS,
  );
  return { number, seed, problem, program: shorter.map(describe) };
}

/** The first line without its numbers: two problems with the same one are taken for the same. */
function kindOf(problem: string): string {
  return problem.split('\n', 1)[0]!.replace(/[0-9]+/g, '');
}

if (parentPort !== null) {
  const port = parentPort;
  run(workerData as Work, (message) => port.postMessage(message));
}
