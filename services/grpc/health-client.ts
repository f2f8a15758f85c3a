import { ClientError, Status } from 'nice-grpc';
import { messageOf } from '../../libs/errors/error.js';
import {
  HealthCheckResponse_ServingStatus as ServingStatus,
  HealthDefinition,
} from '../../proto/gen/grpc/health/v1/health.js';
import { type ConnectionOptions, openChannel } from './channel.js';

/** What came of asking one address. */
export interface HealthAnswer {
  readonly address: string;
  /** As grpc.health.v1 names it; UNREACHABLE where there was no answer. */
  readonly status: 'SERVING' | 'NOT_SERVING' | 'UNKNOWN' | 'SERVICE_UNKNOWN' | 'UNREACHABLE';
  /** Why there was none. */
  readonly reason?: string;
}

export interface AskOptions {
  readonly connection: ConnectionOptions;
  readonly timeoutMs: number;
  /** Aborts the asking, which then ends as UNREACHABLE. */
  readonly signal: AbortSignal;
}

/**
 * Asks a service how it is; never waits longer than the timeout.
 * @param address host:port, or https://host:port
 * @param service what of it; `''` is the whole
 * @throws HeartwoodError INVALID_ARGUMENT naming the address or a file of the connection that is no good
 */
export async function askHealth(
  address: string,
  service: string,
  { connection, timeoutMs, signal }: AskOptions,
): Promise<HealthAnswer> {
  const { channel, clients } = openChannel(address, connection);
  const late = AbortSignal.timeout(timeoutMs);
  try {
    const client = clients.create(HealthDefinition, channel);
    const { status } = await client.check({ service }, { signal: AbortSignal.any([signal, late]) });
    return { address, status: nameOf(status) };
  } catch (thrown) {
    if (thrown instanceof ClientError && thrown.code === Status.NOT_FOUND)
      return { address, status: 'SERVICE_UNKNOWN' };
    const reason = late.aborted
      ? `no answer within ${timeoutMs} ms`
      : messageOf(thrown instanceof ClientError ? thrown.details : thrown);
    return { address, status: 'UNREACHABLE', reason: reason.split('\n')[0]! };
  } finally {
    channel.close();
  }
}

function nameOf(status: ServingStatus): HealthAnswer['status'] {
  if (status === ServingStatus.SERVING) return 'SERVING';
  if (status === ServingStatus.NOT_SERVING) return 'NOT_SERVING';
  return status === ServingStatus.SERVICE_UNKNOWN ? 'SERVICE_UNKNOWN' : 'UNKNOWN';
}
