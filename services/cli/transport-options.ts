import { type Command, Option } from 'commander';
import type { TransportOptions } from '../grpc/settings.js';
import { integer } from './arguments.js';

type Flag = readonly [name: string, value: string, help: string, parse?: (text: string) => number];

const some = integer({ min: 1 });

/** Who may talk to a service. */
const security: readonly Flag[] = [
  ['tls-cert', 'file', "TLS: the server's certificate chain, PEM; read again when it changes"],
  ['tls-key', 'file', 'its private key, PEM'],
  ['tls-client-ca', 'file', 'mutual TLS: authorities whose clients are let in, PEM'],
  ['auth-token-file', 'file', 'bearer tokens, one a line, of which every call needs one (or HEARTWOOD_AUTH_TOKEN)'],
  ['security-poll-ms', 'n', 'milliseconds between two looks at those files (default: 10000)', some],
];

/** What clients may make a service hold. */
const limits: readonly Flag[] = [
  ['max-message-bytes', 'n', 'bytes of the largest message (default: 67108864)', some],
  ['max-connections', 'n', 'connections in all; more are closed as they come (default: 4096)', some],
  ['max-concurrent-streams', 'n', 'calls under way on one connection (default: 1024)', some],
  ['max-calls', 'n', 'calls under way in all; more are refused at once (default: 4096)', some],
  ['max-held-bytes', 'n', 'bytes of requests held in all (default: 536870912)', some],
  [
    'transfer-timeout-ms',
    'n',
    'milliseconds that a client gets to send a request or take an answer (default: 60000)',
    some,
  ],
  ['keepalive-ms', 'n', 'milliseconds of silence before a connection is probed (default: 60000)', some],
  ['keepalive-timeout-ms', 'n', 'milliseconds that it gets to answer (default: 20000)', some],
  ['max-connection-idle-ms', 'n', 'milliseconds that a connection without calls stays (default: 900000)', some],
  ['max-connection-age-ms', 'n', 'milliseconds until a connection is to come anew (default: never)', some],
  ['stop-delay-ms', 'n', 'milliseconds of NOT_SERVING before a stop takes no more calls (default: 0)', integer()],
];

/** The options of every command that opens a gRPC port. Each can be given by the environment, --tls-cert as HEARTWOOD_TLS_CERT. */
export function withTransportOptions(command: Command): Command {
  for (const [heading, flags] of [
    ['Security:', security],
    ['Calls and connections:', limits],
  ] as const) {
    for (const [name, value, help, parse] of flags) {
      const variable = `HEARTWOOD_${name.toUpperCase().replaceAll('-', '_')}`;
      const option = new Option(`--${name} <${value}>`, help).env(variable).helpGroup(heading);
      command.addOption(parse ? option.argParser(parse) : option);
    }
  }
  return command.option('--metrics-host <address>', 'address that the metrics listen on (default: that of --host)');
}

/** The one setting that is no flag, since the arguments of a process can be read by others. */
export function secretsOf(environment: NodeJS.ProcessEnv): Pick<TransportOptions, 'authToken'> {
  const token = environment['HEARTWOOD_AUTH_TOKEN'];
  return token === undefined || token === '' ? {} : { authToken: token };
}

/** The environment without what those options take from it: for a service that is nobody else's. */
export function withoutTransport(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const taken = [...security, ...limits].map(([name]) => `HEARTWOOD_${name.toUpperCase().replaceAll('-', '_')}`);
  return Object.fromEntries(
    Object.entries(environment).filter(
      ([name]) => !['HEARTWOOD_AUTH_TOKEN', 'HEARTWOOD_DATABASE', ...taken].includes(name),
    ),
  );
}
