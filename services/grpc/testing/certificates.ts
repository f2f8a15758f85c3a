import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';

/** Why tests that need certificates are skipped; false where they can run. */
export const withoutOpenssl = spawnSync('openssl', ['version']).error ? 'openssl is not installed' : false;

/** Files of a certificate and its private key, PEM. */
export interface CertificateFiles {
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends CertificateFiles {
  /** A certificate of this authority for 127.0.0.1 and localhost, written to NAME.pem and NAME.key (over what was there). */
  issue(name: string): CertificateFiles;
}

/** Makes a certificate authority with files in a folder. */
export function makeAuthority(folder: string, name: string): Authority {
  const files = (stem: string): CertificateFiles => ({
    cert: join(folder, `${stem}.pem`),
    key: join(folder, `${stem}.key`),
  });
  const make = (stem: string, ...options: string[]): CertificateFiles => {
    const { cert, key } = files(stem);
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
    const common = ['-days', '2', '-subj', `/CN=${stem}`, '-keyout', key, '-out', cert];
    execFileSync('openssl', ['req', '-x509', ...curve, ...common, ...options], { stdio: 'pipe' });
    return { cert, key };
  };
  const own = make(name);
  const names = 'subjectAltName=IP:127.0.0.1,DNS:localhost';
  return {
    ...own,
    issue: (stem) =>
      make(stem, '-CA', own.cert, '-CAkey', own.key, '-addext', names, '-addext', 'basicConstraints=critical,CA:FALSE'),
  };
}
