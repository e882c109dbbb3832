import { Broker, type BrokerOptions } from '../../host/bridge/broker.ts';
import { buildTools } from '../../host/bridge/build.ts';
import { BridgeServer } from '../../host/bridge/server.ts';
import { bridgeRefusal, type HostCommandOptions, openRecording, simulatedHost } from './bridge.ts';
import { Refusal } from './fail.ts';

/** What the thread is started with. */
export interface HostThreadData {
  /** For the head of a recording. */
  readonly command: string;
  readonly options: HostCommandOptions;
  readonly broker: BrokerOptions;
  /** Say when programs can come, and what they left when all have gone. */
  readonly verbose: boolean;
  /** Where compiled modules are kept. */
  readonly cache?: string | undefined;
}

/** What the thread tells. */
export type HostThreadMessage =
  | { readonly type: 'started'; readonly broker: number }
  | { readonly type: 'print'; readonly text: string }
  | { readonly type: 'ended'; readonly status: number }
  | {
      readonly type: 'refused';
      readonly exitCode: Refusal['exitCode'];
      readonly message: string;
    };

/**
 * Serves real programs until the one that was started has ended, or the broker says so; `tell` gets
 * what the main thread has to know.
 */
export function serve(
  { command, options, broker: brokerOptions, verbose }: HostThreadData,
  tell: (message: HostThreadMessage) => void,
): void {
  const print = (text: string): void => {
    if (verbose) tell({ type: 'print', text });
  };
  try {
    const tools = buildTools();
    const recording = openRecording(command, options);
    const { kernel, settle } = simulatedHost(options, recording);
    using broker = new Broker(tools, brokerOptions);
    tell({ type: 'started', broker: broker.pid });
    print(`listening at ${broker.socket}\n`);
    const server = new BridgeServer(kernel, broker, () => {
      const { objects, pins, pasidEntries, fds } = kernel.reportLeftovers();
      recording?.flush();
      print(
        `idle: ${objects} objects, ${pins} pins, ${pasidEntries} pasidEntries, ${fds} fds left over\n`,
      );
    });
    const status = server.run();
    const found = settle();
    recording?.close();
    tell({ type: 'ended', status: status === 0 && found > 0 ? 1 : status });
  } catch (error) {
    const refusal = bridgeRefusal(error);
    if (!(refusal instanceof Refusal)) throw error;
    const { exitCode, message } = refusal;
    tell({ type: 'refused', exitCode, message });
  }
}
