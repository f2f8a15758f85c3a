import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { experimental, type ServerCredentials } from '@grpc/grpc-js';
import { invalid, messageOf } from '../../libs/errors/error.js';
import type { Logger } from '../../libs/telemetry/log.js';
import { type NamedFile, WatchedFiles } from './watched-files.js';

export interface TlsFiles {
  readonly cert: string;
  readonly key: string;
  /** With it clients must show a certificate of one of these authorities. */
  readonly clientCa?: string | undefined;
}

/** What the files hold, checked to belong together. */
export interface TlsMaterial {
  readonly cert: Buffer;
  readonly key: Buffer;
  readonly clientCa: Buffer | undefined;
  /** The last day of the certificate. */
  readonly until: string;
}

export interface ServerTls {
  readonly credentials: ServerCredentials;
  close(): void;
}

/**
 * TLS for a gRPC server out of PEM files, read again as they are renewed: new connections get the new certificate, those that are
 * open keep theirs. A renewal that is no good is told to the log, and the old one stays.
 * @throws HeartwoodError INVALID_ARGUMENT naming the file and what was expected of it
 */
export async function openTls(files: TlsFiles, pollMs: number, log: Logger): Promise<ServerTls> {
  const provider = new Provider();
  const watched = await WatchedFiles.open({
    files: namedFiles(files),
    make: ([cert, key, clientCa]) => checked(files, cert!, key!, clientCa),
    pollMs,
    changed: (material) => {
      log.info({ event: 'certificate', until: material.until }, `a new certificate is in ${files.cert}`);
      provider.publish(material);
    },
    broken: (error) => log.error({ reason: messageOf(error) }, 'the renewed certificate is no good, the old one stays'),
  });
  provider.publish(watched.value);
  const mutual = files.clientCa !== undefined;
  return {
    // The first is asked for the server's own certificate, the second for authorities (the names in its declaration are swapped).
    credentials: experimental.createCertificateProviderServerCredentials(provider, mutual ? provider : null, mutual),
    close: () => watched.close(),
  };
}

function namedFiles({ cert, key, clientCa }: TlsFiles): NamedFile[] {
  return [
    { path: cert, expected: 'a certificate chain in PEM' },
    { path: key, expected: 'a private key in PEM' },
    ...(clientCa === undefined ? [] : [{ path: clientCa, expected: 'certificates of authorities in PEM' }]),
  ];
}

/** Whether the files are what they should be, and belong together. Throws INVALID_ARGUMENT naming the file. */
function checked(files: TlsFiles, cert: Buffer, key: Buffer, clientCa: Buffer | undefined): TlsMaterial {
  const certificate = certificateOf(files.cert, 'a certificate chain in PEM', cert);
  let privateKey: KeyObject;
  try {
    privateKey = createPrivateKey(key);
  } catch (cause) {
    throw invalid(`${files.key}: expected a private key in PEM without a passphrase`, cause);
  }
  if (!certificate.checkPrivateKey(privateKey))
    throw invalid(`${files.key}: expected the private key of the certificate in ${files.cert}`);
  if (clientCa) certificateOf(files.clientCa ?? '', 'certificates of authorities in PEM', clientCa);
  try {
    createSecureContext({ cert, key, ...(clientCa ? { ca: clientCa } : {}) });
  } catch (cause) {
    throw invalid(`${files.cert}: expected a certificate chain that TLS can use: ${messageOf(cause)}`, cause);
  }
  return { cert, key, clientCa, until: certificate.validTo };
}

function certificateOf(path: string, expected: string, bytes: Buffer): X509Certificate {
  try {
    return new X509Certificate(bytes);
  } catch (cause) {
    throw invalid(`${path}: expected ${expected}`, cause);
  }
}

type CaListener = experimental.CaCertificateUpdateListener;
type IdentityListener = experimental.IdentityCertificateUpdateListener;

/** Hands material that has been checked to grpc-js; its own watcher of files would drop connections over half a renewal. */
class Provider implements experimental.CertificateProvider {
  readonly #ca = new Set<CaListener>();
  readonly #identity = new Set<IdentityListener>();
  #material: TlsMaterial | undefined;

  publish(material: TlsMaterial): void {
    this.#material = material;
    this.#ca.forEach((listener) => this.#tellCa(listener));
    this.#identity.forEach((listener) => this.#tellIdentity(listener));
  }

  // A listener is not ready for news while it is being added.
  addCaCertificateListener(listener: CaListener): void {
    this.#ca.add(listener);
    process.nextTick(() => this.#tellCa(listener));
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#ca.delete(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identity.add(listener);
    process.nextTick(() => this.#tellIdentity(listener));
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identity.delete(listener);
  }

  #tellCa(listener: CaListener): void {
    const ca = this.#material?.clientCa;
    if (ca && this.#ca.has(listener)) listener({ caCertificate: ca });
  }

  #tellIdentity(listener: IdentityListener): void {
    const material = this.#material;
    if (material && this.#identity.has(listener)) listener({ certificate: material.cert, privateKey: material.key });
  }
}
