import { Command, Option } from 'commander';
import { HeartwoodError, invalid } from '../../../libs/errors/error.js';
import { askHealth, type HealthAnswer } from '../../grpc/health-client.js';
import type { ConnectionOptions } from '../../grpc/channel.js';
import { examples, integer } from '../arguments.js';
import type { Context } from '../context.js';
import { environmentSwitch } from '../environment-switch.js';
import { write } from '../output.js';

interface Options extends Pick<ConnectionOptions, 'tlsCa' | 'tlsCert' | 'tlsKey' | 'tlsServerName'> {
  readonly address?: string;
  readonly service: string;
  readonly tls?: true;
  readonly tlsVerify: boolean;
  readonly timeoutMs: number;
}

/** Where this machine's services listen unless told otherwise: the server, the pruner. */
const usual = ['127.0.0.1:8001', '127.0.0.1:8003'];

const TLS = 'HEARTWOOD_HEALTH_TLS';
const NO_TLS_VERIFY = 'HEARTWOOD_HEALTH_NO_TLS_VERIFY';

/**
 * Asks grpc.health.v1, as a probe does. Everything can be given by the environment too, so that an image's own health check follows how its
 * service was set up.
 */
export function healthCommand(context: Context): Command {
  const option = (flags: string, help: string, variable: string) =>
    new Option(flags, help).env(`HEARTWOOD_HEALTH_${variable}`);
  const command = new Command('health')
    .description(
      'whether a service takes requests (grpc.health.v1), for probes: exit code 0 when it is SERVING, 1 when not',
    )
    .addOption(option('--address <host:port>', `where it listens (default: ${usual.join(', else ')})`, 'ADDRESS'))
    .addOption(
      option(
        '--service <name>',
        'of what: a service, a MODEL or MODEL/VERSION of a server (default: the server as a whole)',
        'SERVICE',
      ).default('', 'none'),
    )
    .addOption(
      option('--timeout-ms <n>', 'milliseconds that it gets to answer', 'TIMEOUT_MS')
        .argParser(integer({ min: 1 }))
        .default(3000),
    )
    .optionsGroup('Security:')
    .option('--tls', `speak TLS, the authorities being the usual ones (or ${TLS}=true)`)
    .addOption(option('--tls-ca <file>', 'speak TLS; the authorities of its certificate, PEM', 'TLS_CA'))
    .addOption(option('--tls-cert <file>', "mutual TLS: the probe's certificate chain, PEM", 'TLS_CERT'))
    .addOption(option('--tls-key <file>', 'its private key, PEM', 'TLS_KEY'))
    .addOption(
      option(
        '--tls-server-name <name>',
        'the name in its certificate (default: that of the address)',
        'TLS_SERVER_NAME',
      ),
    )
    .option(
      '--no-tls-verify',
      `speak TLS without a look at its certificate: for a probe of the same machine (or ${NO_TLS_VERIFY}=true)`,
    )
    .action((options: Options) => run(options, context));
  return examples(
    command,
    'health --address 127.0.0.1:8001 --service vit/2',
    'health',
    'health --address server:8001 --tls-ca authority.pem',
  );
}

async function run(options: Options, context: Context): Promise<void> {
  const { address, service, timeoutMs, tlsCa, tlsCert, tlsKey, tlsServerName } = options;
  const tls = options.tls ?? environmentSwitch(TLS);
  const tlsVerify = options.tlsVerify && environmentSwitch(NO_TLS_VERIFY) !== true;
  if (tlsCa !== undefined && !tlsVerify) throw invalid('--tls-ca, --no-tls-verify: expected one of the two, got both');
  const connection: ConnectionOptions = {
    ...(tls || !tlsVerify ? { tls: true } : {}),
    ...(tlsVerify ? {} : { tlsVerify }),
    ...Object.fromEntries(
      Object.entries({ tlsCa, tlsCert, tlsKey, tlsServerName }).filter(([, value]) => value !== undefined),
    ),
  };
  const addresses = address === undefined ? usual : [address];
  const asked = await Promise.all(
    addresses.map((one) => askHealth(one, service, { connection, timeoutMs, signal: context.signal })),
  );
  // Of the usual two only one is likely to run here; who answers counts, and of two both.
  const answers = asked.filter(({ status }) => status !== 'UNREACHABLE');
  const counted = answers.length > 0 ? answers : asked;
  await write(context, counted.map((answer) => `${lineOf(answer, service)}\n`).join(''));
  if (!counted.every(({ status }) => status === 'SERVING')) {
    throw new HeartwoodError(
      'UNAVAILABLE',
      `not healthy: ${counted.map((answer) => lineOf(answer, service)).join('; ')}`,
    );
  }
}

function lineOf({ address, status, reason }: HealthAnswer, service: string): string {
  return `${address}${service && ` ${service}`}: ${status}${reason ? ` (${reason})` : ''}`;
}
