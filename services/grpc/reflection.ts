import { type DescFile, toBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import { Status } from 'nice-grpc';
import {
  type DeepPartial,
  ServerReflectionDefinition,
  type ServerReflectionRequest,
  type ServerReflectionResponse,
  type ServerReflectionServiceImplementation,
} from '../../proto/gen/grpc/reflection/v1/reflection.js';
import { contracts } from './contracts.js';

type Answer = DeepPartial<ServerReflectionResponse>;

/** The same calls and messages under the name that older tools ask for. */
export const AlphaReflectionDefinition = {
  ...ServerReflectionDefinition,
  name: 'ServerReflection',
  fullName: 'grpc.reflection.v1alpha.ServerReflection',
} as const;

/**
 * The calls of grpc.reflection.v1.
 * @param services full names of what is served, to list
 * @param stopping ends the streams
 */
export function reflection(
  services: () => readonly string[],
  stopping: AbortSignal,
): ServerReflectionServiceImplementation {
  /** The file of a full name; that of a field, method or enum value is its parent's. */
  const fileOf = (symbol: string): DescFile | undefined =>
    (contracts.get(symbol) ?? contracts.get(symbol.slice(0, Math.max(0, symbol.lastIndexOf('.')))))?.file;

  const answer = (request: ServerReflectionRequest): Answer => {
    const { fileByFilename, fileContainingSymbol, fileContainingExtension, allExtensionNumbersOfType } = request;
    if (fileByFilename !== undefined) return fileAnswer(contracts.getFile(fileByFilename), 'file', fileByFilename);
    if (fileContainingSymbol !== undefined)
      return fileAnswer(fileOf(fileContainingSymbol), 'symbol', fileContainingSymbol);
    if (request.listServices !== undefined)
      return { listServicesResponse: { service: services().map((name) => ({ name })) } };
    // No contract of ours is proto2, which alone has extensions.
    if (fileContainingExtension !== undefined)
      return fileAnswer(undefined, 'extension of', fileContainingExtension.containingType);
    if (allExtensionNumbersOfType !== undefined) {
      if (contracts.getMessage(allExtensionNumbersOfType))
        return { allExtensionNumbersResponse: { baseTypeName: allExtensionNumbersOfType, extensionNumber: [] } };
      return fileAnswer(undefined, 'message', allExtensionNumbersOfType);
    }
    return { errorResponse: { errorCode: Status.INVALID_ARGUMENT, errorMessage: 'message_request: expected one' } };
  };

  return {
    async *serverReflectionInfo(requests) {
      for await (const request of untilAborted(requests, stopping)) {
        yield { validHost: request.host, originalRequest: request, ...answer(request) };
      }
    },
  };
}

function fileAnswer(file: DescFile | undefined, kind: string, name: string): Answer {
  if (file === undefined) {
    const errorMessage = `no ${kind} ${JSON.stringify(name.slice(0, 140))} here`;
    return { errorResponse: { errorCode: Status.NOT_FOUND, errorMessage } };
  }
  const files = [...withImports(file, new Set())];
  return {
    fileDescriptorResponse: {
      fileDescriptorProto: files.map(({ proto }) => Buffer.from(toBinary(FileDescriptorProtoSchema, proto))),
    },
  };
}

/** A file and what it imports, itself first, none twice. */
function withImports(file: DescFile, seen: Set<DescFile>): Set<DescFile> {
  if (seen.has(file)) return seen;
  seen.add(file);
  for (const imported of file.dependencies) withImports(imported, seen);
  return seen;
}

async function* untilAborted<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  const iterator = source[Symbol.asyncIterator]();
  const aborted = new Promise<undefined>((resolve) => {
    if (signal.aborted) resolve(undefined);
    signal.addEventListener('abort', () => resolve(undefined), { once: true });
  });
  for (;;) {
    const next = await Promise.race([iterator.next(), aborted]);
    if (next === undefined || next.done === true) return;
    yield next.value;
  }
}
