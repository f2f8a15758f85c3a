// node read-tensorrt-environment.mjs session_options_helper.cc: lets ONNX Runtime's Node binding take options of TensorRT from the environment.
// JavaScript can give none but the device, and TensorRT's provider reads its own ORT_TENSORRT_* variables only where it is made without options
// (TensorrtExecutionProvider's constructor: `if (info.has_trt_options) … else …`), which the binding never does. Engines would be built anew,
// minutes each, at every start.
import { readFileSync, writeFileSync } from 'node:fs';

/** Options by the names that they have in OrtTensorRTProviderOptionsV2, and the variables that ONNX Runtime calls them by. */
const variables = {
  trt_engine_cache_enable: 'ORT_TENSORRT_ENGINE_CACHE_ENABLE',
  trt_engine_cache_path: 'ORT_TENSORRT_CACHE_PATH',
  trt_timing_cache_enable: 'ORT_TENSORRT_TIMING_CACHE_ENABLE',
  trt_fp16_enable: 'ORT_TENSORRT_FP16_ENABLE',
  trt_max_workspace_size: 'ORT_TENSORRT_MAX_WORKSPACE_SIZE',
  trt_builder_optimization_level: 'ORT_TENSORRT_BUILDER_OPTIMIZATION_LEVEL',
  trt_profile_min_shapes: 'ORT_TENSORRT_PROFILE_MIN_SHAPES',
  trt_profile_max_shapes: 'ORT_TENSORRT_PROFILE_MAX_SHAPES',
  trt_profile_opt_shapes: 'ORT_TENSORRT_PROFILE_OPT_SHAPES',
};

/** The call before which the options are complete. */
const anchor = /^( *)sessionOptions\.AppendExecutionProvider_TensorRT_V2\(\*options\);$/gm;

/** The C++ source with the reading in it. Throws where it is not the source that is expected. */
function withEnvironment(source) {
  const places = [...source.matchAll(anchor)];
  if (places.length !== 1) {
    throw new Error(`expected one call of AppendExecutionProvider_TensorRT_V2(*options), found ${places.length}`);
  }
  const [call, indent] = places[0];
  const pairs = Object.entries(variables).map(([key, variable]) => `    {"${key}", "${variable}"},`);
  const lines = [
    '{',
    '  // Options that were given by the environment.',
    '  const std::pair<const char*, const char*> known[] = {',
    ...pairs,
    '  };',
    '  std::vector<const char*> keys, values;',
    '  for (const auto& [key, variable] : known) {',
    '    const char* value = std::getenv(variable);',
    "    if (value == nullptr || *value == '\\0') continue;",
    '    keys.push_back(key);',
    '    values.push_back(value);',
    '  }',
    '  if (!keys.empty()) {',
    '    Ort::ThrowOnError(Ort::GetApi().UpdateTensorRTProviderOptions(options, keys.data(), values.data(), keys.size()));',
    '  }',
    '}',
  ].map((line) => indent + line);
  const includes = '#include <cstdlib>\n#include <utility>\n#include <vector>\n';
  return includes + source.replace(call, `${lines.join('\n')}\n${call}`);
}

const [file] = process.argv.slice(2);
try {
  writeFileSync(file, withEnvironment(readFileSync(file, 'utf8')));
} catch (error) {
  console.error(`read-tensorrt-environment: ${file}: ${error.message}`);
  process.exit(1);
}
