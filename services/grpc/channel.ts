import { readFileSync } from 'node:fs';
import { ChannelCredentials, type ChannelOptions } from '@grpc/grpc-js';
import { type Channel, type ClientFactory, createChannel, createClientFactory, Metadata } from 'nice-grpc';
import { invalid, messageOf } from '../../libs/errors/error.js';

/** How a client reaches a service. */
export interface ConnectionOptions {
  /** Bytes of the largest message, either way (default: 64 MiB). */
  readonly maxMessageBytes?: number;
  /** PEM file of the authorities that the server's certificate may be of; with it, or an address with https://, TLS is spoken. */
  readonly tlsCa?: string;
  /** PEM files that the client shows who it is by (mutual TLS). */
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  /** TLS with the authorities that are usual, as an address with https:// has it. */
  readonly tls?: boolean;
  /** The name that the server's certificate is to have (default: that of the address). */
  readonly tlsServerName?: string;
  /** False: any certificate will do. For a probe that asks its own machine; who else does so talks to anyone (default: true). */
  readonly tlsVerify?: boolean;
  /** Sent with every call. */
  readonly authToken?: string;
}

export interface Connection {
  readonly channel: Channel;
  /** Makes clients over the channel that send the token. */
  readonly clients: ClientFactory;
}

/**
 * @param address host:port, or https://host:port
 * @throws HeartwoodError INVALID_ARGUMENT naming the file or the address that is no good
 */
export function openChannel(address: string, options: ConnectionOptions = {}, extra: ChannelOptions = {}): Connection {
  const { maxMessageBytes = 64 * 1024 * 1024, tlsCa, tlsCert, tlsKey, tlsServerName, authToken } = options;
  if ((tlsCert === undefined) !== (tlsKey === undefined))
    throw invalid(
      `option ${tlsCert === undefined ? 'tlsCert' : 'tlsKey'}: expected a file beside the other's, got none`,
    );
  const secure = options.tls === true || tlsCa !== undefined || tlsCert !== undefined || address.startsWith('https://');
  checkPort(address);
  const channel = createChannel(address, secure ? credentialsOf(options) : undefined, {
    'grpc.max_receive_message_length': maxMessageBytes,
    'grpc.max_send_message_length': maxMessageBytes,
    ...(tlsServerName === undefined ? {} : { 'grpc.ssl_target_name_override': tlsServerName }),
    ...extra,
  });
  const clients = createClientFactory();
  if (authToken === undefined) return { channel, clients };
  return {
    channel,
    clients: clients.use((call, options) => {
      const metadata = Metadata(options.metadata).set('authorization', `Bearer ${authToken}`);
      return call.next(call.request, { ...options, metadata });
    }),
  };
}

/** What dials a port that there cannot be throws where nobody catches it. */
function checkPort(address: string): void {
  // An IPv6 address without brackets has no port.
  const port = /^(?:https?:\/\/)?(?:\[[^\]]*\]|[^:]*):(\d+)\/?$/.exec(address)?.[1];
  if (port !== undefined && (Number(port) < 1 || Number(port) > 65535))
    throw invalid(`${address}: expected host:port with a port of 1 to 65535, got ${port}`);
}

function credentialsOf(options: ConnectionOptions): ChannelCredentials {
  const { tlsCa: ca, tlsCert: cert, tlsKey: key, tlsVerify = true } = options;
  const files = [
    ca && read(ca, 'certificates of authorities in PEM'),
    key && read(key, 'a private key in PEM'),
    cert && read(cert, 'a certificate chain in PEM'),
  ].map((bytes) => bytes || null);
  try {
    const given = files as [Buffer | null, Buffer | null, Buffer | null];
    const anyone = { rejectUnauthorized: false, checkServerIdentity: () => undefined };
    return ChannelCredentials.createSsl(...given, ...(tlsVerify ? [] : [anyone]));
  } catch (cause) {
    const named = [ca, key, cert].filter((path) => path !== undefined).join(', ');
    throw invalid(`${named}: expected certificates and a key in PEM that belong together: ${messageOf(cause)}`, cause);
  }
}

function read(path: string, expected: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw invalid(`${path}: expected ${expected}, but it cannot be read: ${messageOf(cause)}`, cause);
  }
}
