import { logVerbosity, setLogVerbosity } from '@grpc/grpc-js';
import { ServerError, Status, type ServerMiddlewareCall, type CallContext } from 'nice-grpc';
import { type ErrorCode, HeartwoodError } from '../../libs/errors/error.js';
import { detailsOf } from './status-details.js';

/** Every code of HeartwoodError by its number in gRPC. */
const STATUS: Record<ErrorCode, Status> = {
  INVALID_ARGUMENT: Status.INVALID_ARGUMENT,
  NOT_FOUND: Status.NOT_FOUND,
  ALREADY_EXISTS: Status.ALREADY_EXISTS,
  FAILED_PRECONDITION: Status.FAILED_PRECONDITION,
  OUT_OF_RANGE: Status.OUT_OF_RANGE,
  RESOURCE_EXHAUSTED: Status.RESOURCE_EXHAUSTED,
  UNIMPLEMENTED: Status.UNIMPLEMENTED,
  UNAVAILABLE: Status.UNAVAILABLE,
  UNAUTHENTICATED: Status.UNAUTHENTICATED,
  PERMISSION_DENIED: Status.PERMISSION_DENIED,
  DEADLINE_EXCEEDED: Status.DEADLINE_EXCEEDED,
  CANCELLED: Status.CANCELLED,
  INTERNAL: Status.INTERNAL,
};

const CODE = new Map(Object.entries(STATUS).map(([code, status]) => [status, code as ErrorCode]));

/**
 * What a client is told of anything that a handler throws: the code and message of a HeartwoodError; CANCELLED for an abort; and of
 * a defect only that there was one, since its text may hold paths or data that are not the client's.
 */
export function toServerError(thrown: unknown): ServerError {
  if (thrown instanceof ServerError) return thrown;
  if (thrown instanceof HeartwoodError) return new ServerError(STATUS[thrown.code], detailsOf(thrown.message));
  if (isAbort(thrown)) return new ServerError(Status.CANCELLED, 'the call was cancelled');
  return new ServerError(Status.INTERNAL, 'internal error; the log of the service has the details');
}

/** The way back, for clients: a gRPC status as a HeartwoodError; codes without a counterpart become UNAVAILABLE or INTERNAL. */
export function fromStatus(status: Status, details: string, cause?: unknown): HeartwoodError {
  const fallback: ErrorCode = status === Status.UNKNOWN || status === Status.DATA_LOSS ? 'INTERNAL' : 'UNAVAILABLE';
  return new HeartwoodError(CODE.get(status) ?? fallback, details || Status[status], { cause });
}

/** Whether a thrown value is what an aborted AbortSignal raises. */
export function isAbort(thrown: unknown): boolean {
  return thrown instanceof Error && thrown.name === 'AbortError';
}

/**
 * Server middleware of nice-grpc that maps errors by {@link toServerError}.
 * @param report is told of errors that are our own defects (INTERNAL), with the method's path
 */
export function errorMapping(report: (error: unknown, path: string) => void) {
  // grpc-js prints some errors on stderr besides throwing them; every one is reported by whoever catches it.
  if (!process.env['GRPC_VERBOSITY']) setLogVerbosity(logVerbosity.NONE);
  return async function* <Request, Response>(call: ServerMiddlewareCall<Request, Response>, context: CallContext) {
    try {
      return yield* call.next(call.request, context);
    } catch (thrown) {
      // nice-grpc itself answers an abort by the client's own cancellation.
      if (isAbort(thrown) && context.signal.aborted) throw thrown;
      const error = toServerError(thrown);
      // A ServerError is what a handler means to answer: a protocol may call INTERNAL what is no defect.
      if (error.code === Status.INTERNAL && thrown !== error) report(thrown, call.method.path);
      throw error;
    }
  };
}
