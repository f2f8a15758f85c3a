/**
 * What Triton's clients speak, as a table: the numbers, types and names of the fields of its `grpc_service.proto` and
 * `model_config.proto` (release 2.5x), taken down from there and not from our own files, so that one can be held against the other.
 * A field is `name=number:type`; `*` before a type stands for repeated, `K>V` for a map, `(choice)` for a member of that oneof.
 */
const INFER_TENSOR =
  'name=1:string datatype=2:string shape=3:*int64 parameters=4:string>InferParameter contents=5:InferTensorContents';
const PARAMETER =
  'bool_param=1:bool(parameter_choice) int64_param=2:int64(parameter_choice) string_param=3:string(parameter_choice)';
const LOG_SETTING =
  'bool_param=1:bool(parameter_choice) uint32_param=2:uint32(parameter_choice) string_param=3:string(parameter_choice)';

export const messages: Readonly<Record<string, string>> = {
  ServerLiveRequest: '',
  ServerLiveResponse: 'live=1:bool',
  ServerReadyRequest: '',
  ServerReadyResponse: 'ready=1:bool',
  ModelReadyRequest: 'name=1:string version=2:string',
  ModelReadyResponse: 'ready=1:bool',
  ServerMetadataRequest: '',
  ServerMetadataResponse: 'name=1:string version=2:string extensions=3:*string',
  ModelMetadataRequest: 'name=1:string version=2:string',
  ModelMetadataResponse:
    'name=1:string versions=2:*string platform=3:string inputs=4:*TensorMetadata outputs=5:*TensorMetadata',
  'ModelMetadataResponse.TensorMetadata': 'name=1:string datatype=2:string shape=3:*int64',
  InferParameter: `${PARAMETER} double_param=4:double(parameter_choice) uint64_param=5:uint64(parameter_choice)`,
  InferTensorContents:
    'bool_contents=1:*bool int_contents=2:*int32 int64_contents=3:*int64 uint_contents=4:*uint32 uint64_contents=5:*uint64 ' +
    'fp32_contents=6:*float fp64_contents=7:*double bytes_contents=8:*bytes',
  ModelInferRequest:
    'model_name=1:string model_version=2:string id=3:string parameters=4:string>InferParameter inputs=5:*InferInputTensor ' +
    'outputs=6:*InferRequestedOutputTensor raw_input_contents=7:*bytes',
  'ModelInferRequest.InferInputTensor': INFER_TENSOR,
  'ModelInferRequest.InferRequestedOutputTensor': 'name=1:string parameters=2:string>InferParameter',
  ModelInferResponse:
    'model_name=1:string model_version=2:string id=3:string parameters=4:string>InferParameter outputs=5:*InferOutputTensor ' +
    'raw_output_contents=6:*bytes',
  'ModelInferResponse.InferOutputTensor': INFER_TENSOR,
  ModelStreamInferResponse: 'error_message=1:string infer_response=2:ModelInferResponse',
  ModelConfigRequest: 'name=1:string version=2:string',
  ModelConfigResponse: 'config=1:ModelConfig',
  ModelStatisticsRequest: 'name=1:string version=2:string',
  ModelStatisticsResponse: 'model_stats=1:*ModelStatistics',
  ModelStatistics:
    'name=1:string version=2:string last_inference=3:uint64 inference_count=4:uint64 execution_count=5:uint64 ' +
    'inference_stats=6:InferStatistics batch_stats=7:*InferBatchStatistics memory_usage=8:*MemoryUsage ' +
    'response_stats=9:string>InferResponseStatistics',
  StatisticDuration: 'count=1:uint64 ns=2:uint64',
  InferStatistics:
    'success=1:StatisticDuration fail=2:StatisticDuration queue=3:StatisticDuration compute_input=4:StatisticDuration ' +
    'compute_infer=5:StatisticDuration compute_output=6:StatisticDuration cache_hit=7:StatisticDuration ' +
    'cache_miss=8:StatisticDuration',
  InferResponseStatistics:
    'compute_infer=1:StatisticDuration compute_output=2:StatisticDuration success=3:StatisticDuration ' +
    'fail=4:StatisticDuration empty_response=5:StatisticDuration',
  InferBatchStatistics:
    'batch_size=1:uint64 compute_input=2:StatisticDuration compute_infer=3:StatisticDuration compute_output=4:StatisticDuration',
  MemoryUsage: 'type=1:string id=2:int64 byte_size=3:uint64',
  ModelRepositoryParameter: `${PARAMETER} bytes_param=4:bytes(parameter_choice)`,
  RepositoryIndexRequest: 'repository_name=1:string ready=2:bool',
  RepositoryIndexResponse: 'models=1:*ModelIndex',
  'RepositoryIndexResponse.ModelIndex': 'name=1:string version=2:string state=3:string reason=4:string',
  RepositoryModelLoadRequest:
    'repository_name=1:string model_name=2:string parameters=3:string>ModelRepositoryParameter',
  RepositoryModelLoadResponse: '',
  RepositoryModelUnloadRequest:
    'repository_name=1:string model_name=2:string parameters=3:string>ModelRepositoryParameter',
  RepositoryModelUnloadResponse: '',
  SystemSharedMemoryStatusRequest: 'name=1:string',
  SystemSharedMemoryStatusResponse: 'regions=1:string>RegionStatus',
  'SystemSharedMemoryStatusResponse.RegionStatus': 'name=1:string key=2:string offset=3:uint64 byte_size=4:uint64',
  SystemSharedMemoryRegisterRequest: 'name=1:string key=2:string offset=3:uint64 byte_size=4:uint64',
  SystemSharedMemoryRegisterResponse: '',
  SystemSharedMemoryUnregisterRequest: 'name=1:string',
  SystemSharedMemoryUnregisterResponse: '',
  CudaSharedMemoryStatusRequest: 'name=1:string',
  CudaSharedMemoryStatusResponse: 'regions=1:string>RegionStatus',
  'CudaSharedMemoryStatusResponse.RegionStatus': 'name=1:string device_id=2:uint64 byte_size=3:uint64',
  CudaSharedMemoryRegisterRequest: 'name=1:string raw_handle=2:bytes device_id=3:int64 byte_size=4:uint64',
  CudaSharedMemoryRegisterResponse: '',
  CudaSharedMemoryUnregisterRequest: 'name=1:string',
  CudaSharedMemoryUnregisterResponse: '',
  TraceSettingRequest: 'settings=1:string>SettingValue model_name=2:string',
  'TraceSettingRequest.SettingValue': 'value=1:*string',
  TraceSettingResponse: 'settings=1:string>SettingValue',
  'TraceSettingResponse.SettingValue': 'value=1:*string',
  LogSettingsRequest: 'settings=1:string>SettingValue',
  'LogSettingsRequest.SettingValue': LOG_SETTING,
  LogSettingsResponse: 'settings=1:string>SettingValue',
  'LogSettingsResponse.SettingValue': LOG_SETTING,
  ModelConfig:
    'name=1:string platform=2:string backend=17:string runtime=25:string version_policy=3:ModelVersionPolicy ' +
    'max_batch_size=4:int32 input=5:*ModelInput output=6:*ModelOutput ' +
    'dynamic_batching=11:ModelDynamicBatching(scheduling_choice) instance_group=7:*ModelInstanceGroup ' +
    'default_model_filename=8:string cc_model_filenames=9:string>string metric_tags=10:string>string ' +
    'parameters=14:string>ModelParameter model_warmup=16:*ModelWarmup model_operations=18:ModelOperations ' +
    'model_transaction_policy=19:ModelTransactionPolicy response_cache=24:ModelResponseCache',
  ModelInput:
    'name=1:string data_type=2:DataType format=3:Format dims=4:*int64 reshape=5:ModelTensorReshape is_shape_tensor=6:bool ' +
    'allow_ragged_batch=7:bool optional=8:bool is_non_linear_format_io=9:bool',
  ModelOutput:
    'name=1:string data_type=2:DataType dims=3:*int64 reshape=5:ModelTensorReshape label_filename=4:string ' +
    'is_shape_tensor=6:bool is_non_linear_format_io=7:bool',
  ModelTensorReshape: 'shape=1:*int64',
  ModelVersionPolicy: 'latest=1:Latest(policy_choice) all=2:All(policy_choice) specific=3:Specific(policy_choice)',
  'ModelVersionPolicy.Latest': 'num_versions=1:uint32',
  'ModelVersionPolicy.All': '',
  'ModelVersionPolicy.Specific': 'versions=1:*int64',
  ModelInstanceGroup:
    'name=1:string kind=4:Kind count=2:int32 gpus=3:*int32 profile=5:*string passive=7:bool host_policy=9:string',
  ModelQueuePolicy:
    'timeout_action=1:TimeoutAction default_timeout_microseconds=2:uint64 allow_timeout_override=3:bool max_queue_size=4:uint32',
  ModelDynamicBatching:
    'preferred_batch_size=1:*int32 max_queue_delay_microseconds=2:uint64 preserve_ordering=3:bool priority_levels=4:uint64 ' +
    'default_priority_level=5:uint64 default_queue_policy=6:ModelQueuePolicy priority_queue_policy=7:uint64>ModelQueuePolicy',
  ModelParameter: 'string_value=1:string',
  ModelWarmup: 'name=1:string batch_size=2:uint32 inputs=3:string>Input count=4:uint32',
  'ModelWarmup.Input':
    'data_type=1:DataType dims=2:*int64 zero_data=3:bool(input_data_type) random_data=4:bool(input_data_type) ' +
    'input_data_file=5:string(input_data_type)',
  ModelOperations: 'op_library_filename=1:*string',
  ModelTransactionPolicy: 'decoupled=1:bool',
  ModelResponseCache: 'enable=1:bool',
};

export const enums: Readonly<Record<string, readonly string[]>> = {
  DataType: [
    ...[
      'TYPE_INVALID',
      'TYPE_BOOL',
      'TYPE_UINT8',
      'TYPE_UINT16',
      'TYPE_UINT32',
      'TYPE_UINT64',
      'TYPE_INT8',
      'TYPE_INT16',
    ],
    ...['TYPE_INT32', 'TYPE_INT64', 'TYPE_FP16', 'TYPE_FP32', 'TYPE_FP64', 'TYPE_STRING', 'TYPE_BF16'],
  ],
  'ModelInput.Format': ['FORMAT_NONE', 'FORMAT_NHWC', 'FORMAT_NCHW'],
  'ModelInstanceGroup.Kind': ['KIND_AUTO', 'KIND_GPU', 'KIND_CPU', 'KIND_MODEL'],
  'ModelQueuePolicy.TimeoutAction': ['REJECT', 'DELAY'],
};

/** Every call takes `<name>Request` and answers `<name>Response`, but for the stream. */
export const calls: readonly string[] = [
  ...['ServerLive', 'ServerReady', 'ModelReady', 'ServerMetadata', 'ModelMetadata', 'ModelInfer', 'ModelStreamInfer'],
  ...['ModelConfig', 'ModelStatistics', 'RepositoryIndex', 'RepositoryModelLoad', 'RepositoryModelUnload'],
  ...['SystemSharedMemoryStatus', 'SystemSharedMemoryRegister', 'SystemSharedMemoryUnregister'],
  ...[
    'CudaSharedMemoryStatus',
    'CudaSharedMemoryRegister',
    'CudaSharedMemoryUnregister',
    'TraceSetting',
    'LogSettings',
  ],
];

/** The one call whose messages are named otherwise: both ways are streams. */
export const streamCall = {
  name: 'ModelStreamInfer',
  request: 'ModelInferRequest',
  response: 'ModelStreamInferResponse',
};
