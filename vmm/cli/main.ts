import { Command, CommanderError } from 'commander';
import { execCommand } from './exec.ts';
import { oneLine, Refusal, whyNot } from './fail.ts';
import { hostCommand } from './host.ts';
import { replayCommand } from './replay.ts';
import { runCommand } from './run.ts';
import { serveCommand } from './serve.ts';
import { traceCommand } from './trace.ts';
import { tuiCommand } from './tui.ts';
import { VERSION } from './version.ts';

const USAGE_ERROR = 2;

function program(): Command {
  const cli = new Command('vsva')
    .description(
      'Shared virtual addressing for virtual machines, end to end and without hardware: guest,' +
        ' VMM, iommufd, VT-d and a PASID-capable accelerator in one process.',
    )
    .version(VERSION, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand(false)
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({
      outputError: (text, write) => {
        write(`vsva: ${oneLine(text.replace(/^error: /, ''))}\n`);
      },
    });
  // A command that is added, not made, by the parent has its settings only when told so.
  for (const command of [
    runCommand(),
    tuiCommand(),
    traceCommand(),
    serveCommand(),
    replayCommand(),
    execCommand(),
    hostCommand(),
  ]) {
    cli.addCommand(command.copyInheritedSettings(cli));
    for (const sub of command.commands) sub.copyInheritedSettings(command);
  }
  return cli;
}

/** Runs the command line and sets the exit code. One clear line on standard error says what failed. */
async function main(): Promise<void> {
  try {
    await program().parseAsync();
  } catch (error) {
    if (error instanceof CommanderError) {
      process.exitCode = error.exitCode === 0 ? 0 : USAGE_ERROR;
    } else if (error instanceof Refusal) {
      process.stderr.write(`vsva: ${oneLine(error.message)}\n`);
      process.exitCode = error.exitCode;
    } else {
      throw error;
    }
  }
}

// A reader that goes away (`vsva run | head`) ends the run quietly; the exit code claims no more than
// is known by then.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE' && error.code !== 'ECONNRESET') {
    process.stderr.write(`vsva: cannot write standard output: ${whyNot(error)}\n`);
    process.exit(1);
  }
  process.exit(process.exitCode ?? 1);
});

await main();
