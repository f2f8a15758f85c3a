import { ServerError, Status } from 'nice-grpc';
import { HeartwoodError } from '../../../libs/errors/error.js';
import type {
  ModelRepositoryParameter,
  RepositoryIndexRequest,
  RepositoryIndexResponse,
  RepositoryModelLoadRequest,
  RepositoryModelUnloadRequest,
} from '../../../proto/gen/open_inference_grpc.js';
import type { Catalog } from '../catalog/catalog.js';

const states = { loading: 'LOADING', ready: 'READY', unavailable: 'UNAVAILABLE' } as const;

/** What the repository holds, in which state and why. Throws UNIMPLEMENTED for a repository's name: there is one, without. */
export async function repositoryIndex(
  catalog: Catalog,
  { repositoryName, ready }: RepositoryIndexRequest,
): Promise<RepositoryIndexResponse> {
  refuseRepositoryName(repositoryName);
  // Where the repository is polled the catalog knows it already; a look here would wait for what it loads.
  if (catalog.control !== 'poll') await catalog.sync();
  const models = catalog
    .list()
    .filter(({ state }) => !ready || state.kind === 'ready')
    .map(({ model, version, state }) => ({
      name: model,
      version: String(version),
      state: states[state.kind],
      reason: state.kind === 'unavailable' ? state.reason : '',
    }));
  return { models };
}

/**
 * Loads a model, by Triton's codes: UNAVAILABLE unless the load control is explicit; INTERNAL for a model that is not in the repository;
 * INVALID_ARGUMENT with the reasons when a version of it cannot be loaded.
 */
export async function loadModel(catalog: Catalog, request: RepositoryModelLoadRequest): Promise<object> {
  const { modelName, parameters } = request;
  checkControl(catalog, request);
  refuseOverrides(parameters);
  try {
    await catalog.loadModel(modelName);
  } catch (thrown) {
    if (!(thrown instanceof HeartwoodError)) throw thrown;
    if (thrown.code === 'NOT_FOUND') {
      const reason = `failed to load '${modelName}', failed to poll from model repository: it is not there`;
      throw new ServerError(Status.INTERNAL, reason);
    }
    if (thrown.code !== 'FAILED_PRECONDITION') throw thrown;
    throw new HeartwoodError('INVALID_ARGUMENT', `load failed for model '${modelName}': ${thrown.message}`, {
      cause: thrown,
    });
  }
  return {};
}

/** Unloads a model; one that is not loaded, or unknown, is so already. Throws UNAVAILABLE unless the load control is explicit. */
export async function unloadModel(catalog: Catalog, request: RepositoryModelUnloadRequest): Promise<object> {
  checkControl(catalog, request);
  await catalog.unloadModel(request.modelName);
  return {};
}

function checkControl({ control }: Catalog, { repositoryName }: { repositoryName: string }): void {
  refuseRepositoryName(repositoryName);
  if (control === 'explicit') return;
  throw new HeartwoodError(
    'UNAVAILABLE',
    `explicit model load / unload is not allowed if polling is enabled: the load control is ${control}, not explicit`,
  );
}

function refuseRepositoryName(name: string): void {
  if (name === '') return;
  throw new HeartwoodError(
    'UNIMPLEMENTED',
    "'repository_name' specification is not supported: there is one repository",
  );
}

/** `config` and `file:…` would put other content in the place of the repository's, whose digests would be for nothing. */
function refuseOverrides(parameters: Readonly<Record<string, ModelRepositoryParameter>>): void {
  const name = Object.keys(parameters).find((key) => key === 'config' || key.startsWith('file:'));
  if (name === undefined) return;
  throw new HeartwoodError(
    'UNIMPLEMENTED',
    `parameter ${JSON.stringify(name.slice(0, 80))}: a model is loaded as the repository has it, overrides are not supported`,
  );
}
