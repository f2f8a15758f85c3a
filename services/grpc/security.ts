import { ServerCredentials } from '@grpc/grpc-js';
import { invalid, messageOf } from '../../libs/errors/error.js';
import type { Logger } from '../../libs/telemetry/log.js';
import { flagOf, optionError } from '../settings/option-error.js';
import type { TransportSettings } from './settings.js';
import { openTls } from './tls.js';
import { Tokens } from './tokens.js';
import { WatchedFiles } from './watched-files.js';

/** Who may talk to a service, and how. */
export interface Security {
  readonly credentials: ServerCredentials;
  /** Whether a call with this `authorization` header is let in; undefined where no token is asked for. */
  readonly accept: ((authorization: string) => boolean) | undefined;
  close(): void;
}

type SecuritySettings = Pick<
  TransportSettings,
  'tlsCert' | 'tlsKey' | 'tlsClientCa' | 'authToken' | 'authTokenFile' | 'securityPollMs'
>;

/**
 * Reads certificates and tokens, and says in the log what is not protected.
 * @throws HeartwoodError INVALID_ARGUMENT naming the option or file and what was expected
 */
export async function openSecurity(settings: SecuritySettings, log: Logger): Promise<Security> {
  const { tlsCert, tlsKey, tlsClientCa, authToken, authTokenFile, securityPollMs } = settings;
  if ((tlsCert === undefined) !== (tlsKey === undefined)) {
    throw optionError(tlsCert === undefined ? 'tlsCert' : 'tlsKey', "expected a file beside the other's, got none");
  }
  if (tlsClientCa !== undefined && tlsCert === undefined)
    throw optionError(
      'tlsClientCa',
      'expected --tls-cert and --tls-key with it, since clients show certificates over TLS',
    );
  if (authToken !== undefined && authTokenFile !== undefined)
    throw invalid(`options ${flagOf('authToken')}, ${flagOf('authTokenFile')}: expected one of them, got both`);

  const file =
    authTokenFile === undefined
      ? undefined
      : await WatchedFiles.open({
          files: [{ path: authTokenFile, expected: 'bearer tokens, one a line' }],
          make: ([text]) => Tokens.parse(authTokenFile, text!.toString('utf8')),
          pollMs: securityPollMs,
          changed: () => log.info({ event: 'tokens' }, `new tokens are in ${authTokenFile}`),
          broken: (error) => log.error({ reason: messageOf(error) }, 'the new tokens are no good, the old ones stay'),
        });
  const fixed = authToken === undefined ? undefined : Tokens.parse(`option ${flagOf('authToken')}`, authToken);
  const tokens = () => file?.value ?? fixed;
  const tls =
    tlsCert === undefined || tlsKey === undefined
      ? undefined
      : await openTls({ cert: tlsCert, key: tlsKey, clientCa: tlsClientCa }, securityPollMs, log).catch((error) => {
          file?.close();
          throw error;
        });

  if (!tls) log.warn('gRPC is not encrypted: --tls-cert and --tls-key make it TLS');
  if (!tokens() && tlsClientCa === undefined) {
    log.warn('gRPC is open to whoever reaches the port: --auth-token-file or --tls-client-ca ask who it is');
  } else if (tokens() && !tls)
    log.warn('bearer tokens cross the network unencrypted: --tls-cert and --tls-key hide them');
  return {
    credentials: tls?.credentials ?? ServerCredentials.createInsecure(),
    accept: tokens() ? (authorization) => tokens()?.accept(authorization) ?? false : undefined,
    close: () => {
      tls?.close();
      file?.close();
    },
  };
}
