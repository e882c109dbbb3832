import { Command } from 'commander';
import { Recording, RecordingError } from '../../trace/record/reader.ts';
import { Replay } from '../../trace/stream/engine.ts';
import { Refusal, whyNot } from './fail.ts';
import { interrupted, listen, newServer, type ServeOptions, serveOptions } from './server.ts';

/** `vsva replay PATH`: a recording, served to viewers as if live. */
export function replayCommand(): Command {
  const command = new Command('replay')
    .description(
      'Serve a recording (`vsva run --trace PATH.vsva`) to viewers as `vsva serve` serves a run:' +
        ' each viewer has a clock of its own, begins at the beginning, and may pause, step and seek.' +
        ' Runs until it is interrupted.',
    )
    .summary('serve a recording to viewers, with seek')
    .argument('<PATH>', 'a recording: PATH.vsva');
  return serveOptions(command)
    .addHelpText(
      'after',
      '\nExit code: 0 when it was interrupted, 1 when the recording cannot be read or the port cannot' +
        '\nbe had, 2 when the command line cannot be followed.',
    )
    .action(replay);
}

async function replay(path: string, options: ServeOptions): Promise<void> {
  const recording = openRecorded(path);
  try {
    const { whole, lostBytes } = recording.about;
    const reason = whole ? undefined : `the recording was cut off: ${lostBytes} bytes are lost`;
    const engine = new Replay(recording, options.speed ?? null, reason);
    const server = newServer(engine, recording.decoder, recording.schema, options);
    await listen(server, options);
    const { events, lastNs } = recording.about;
    process.stdout.write(
      `serving ${server.url}  (${events} events, ${lastNs} ns${whole ? '' : `; ${reason}`};` +
        ' Ctrl-C ends it)\n',
    );
    await interrupted();
    await server.close();
  } finally {
    recording.close();
  }
}

/** @throws Refusal saying what is wrong and what to do */
export function openRecorded(path: string): Recording {
  try {
    return Recording.open(path);
  } catch (error) {
    if (error instanceof RecordingError) throw new Refusal(1, error.message);
    throw new Refusal(1, `cannot read ${path}: ${whyNot(error)}`);
  }
}
