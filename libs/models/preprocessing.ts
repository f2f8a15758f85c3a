import { z } from 'zod';
import { invalid } from '../errors/error.js';

const positive = z.int().min(1).max(16384);
const extent = z.object({ height: positive, width: positive });

/** What happens to an image before a model sees it, in this order: resize, centre crop, rescale, normalise. */
export const imagePreprocessingSchema = z.object({
  size: extent,
  resample: z.enum(['nearest', 'bilinear', 'bicubic', 'lanczos']),
  resize: z.boolean(),
  crop: extent.optional(),
  /** Pixels 0…255 are multiplied by this; 0 means no such step. */
  rescale: z.number().min(0),
  /** By channel, after rescaling: (x − mean) / std. Without normalisation, 0 and 1. */
  mean: z.array(z.number()).min(1),
  std: z.array(z.number().positive()).min(1),
  channels: z.union([z.literal(3), z.literal(1)]),
});

export interface ImagePreprocessing {
  readonly size: { readonly height: number; readonly width: number };
  readonly resample: 'nearest' | 'bilinear' | 'bicubic' | 'lanczos';
  readonly resize: boolean;
  readonly crop?: { readonly height: number; readonly width: number };
  readonly rescale: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly channels: 3 | 1;
}

/** What config.json says about images, for what preprocessor_config.json leaves open. */
export interface ImageModel {
  readonly modelType: string;
  readonly imageSize: { readonly height: number; readonly width: number };
  readonly channels: 3 | 1;
}

/** Defaults of transformers' image processors, by family: ViTImageProcessor and DeiTImageProcessor (version 5.18). */
const families = {
  vit: { size: 224, resample: 2, crop: undefined },
  deit: { size: 256, resample: 3, crop: 224 },
} as const;

/** PIL.Image.Resampling by number. */
const resampling = { 0: 'nearest', 1: 'lanczos', 2: 'bilinear', 3: 'bicubic' } as const;

const sizeSchema = z.union([positive, z.tuple([positive, positive]), extent], {
  error: 'expected {"height", "width"} or a number',
});

const processorSchema = z.looseObject({
  image_processor_type: z.string().optional(),
  feature_extractor_type: z.string().optional(),
  do_resize: z.boolean().optional(),
  size: sizeSchema.optional(),
  resample: z.union([z.literal(0), z.literal(1), z.literal(2), z.literal(3)], {
    error: 'expected 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 (bicubic)',
  }).optional(),
  do_center_crop: z.boolean().nullish(),
  crop_size: sizeSchema.nullish(),
  do_rescale: z.boolean().nullish(),
  rescale_factor: z.number().positive().optional(),
  do_normalize: z.boolean().optional(),
  image_mean: z.union([z.number(), z.array(z.number())]).optional(),
  image_std: z.union([z.number().positive(), z.array(z.number().positive())]).optional(),
});

/**
 * The preprocessing that a checkpoint's preprocessor_config.json (`json`, from `file`) says; what it leaves out is as
 * transformers has it. Without such a file, undefined: the processor of the model's family with its images resized to the
 * model's size. Throws INVALID_ARGUMENT naming the file and the field.
 */
export function parsePreprocessing(json: unknown, file: string, model: ImageModel): ImagePreprocessing {
  if (json === undefined) return preprocessingFor(model);
  const parsed = processorSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${file}: ${issue.path.join('.') || 'the whole'}: ${issue.message}`);
  }
  const processor = parsed.data;
  const family = families[familyOf(processor.image_processor_type ?? processor.feature_extractor_type, model, file)];
  const crops = processor.do_center_crop ?? family.crop !== undefined;
  const rescales = processor.do_rescale ?? true;
  const normalises = processor.do_normalize ?? true;
  const result: ImagePreprocessing = {
    size: extentOf(processor.size ?? family.size),
    resample: resampling[processor.resample ?? family.resample],
    resize: processor.do_resize ?? true,
    ...(crops ? { crop: extentOf(processor.crop_size ?? family.crop ?? 224) } : {}),
    rescale: rescales ? (processor.rescale_factor ?? 1 / 255) : 0,
    mean: byChannel(normalises ? (processor.image_mean ?? 0.5) : 0, model.channels, `${file}: image_mean`),
    std: byChannel(normalises ? (processor.image_std ?? 0.5) : 1, model.channels, `${file}: image_std`),
    channels: model.channels,
  };
  const output = result.crop ?? result.size;
  if (output.height !== model.imageSize.height || output.width !== model.imageSize.width) {
    throw invalid(
      `${file}: images come out as ${output.height}×${output.width}, ` +
        `expected the image_size of config.json, ${model.imageSize.height}×${model.imageSize.width}`,
    );
  }
  return result;
}

function preprocessingFor(model: ImageModel): ImagePreprocessing {
  const family = families[model.modelType === 'deit' ? 'deit' : 'vit'];
  return {
    size: model.imageSize,
    resample: resampling[family.resample],
    resize: true,
    rescale: 1 / 255,
    mean: byChannel(0.5, model.channels, 'mean'),
    std: byChannel(0.5, model.channels, 'std'),
    channels: model.channels,
  };
}

function familyOf(type: string | undefined, model: ImageModel, file: string): keyof typeof families {
  if (type === undefined) return model.modelType === 'deit' ? 'deit' : 'vit';
  // ViTImageProcessor, ViTImageProcessorFast, ViTImageProcessorPil and, before 4.25, ViTFeatureExtractor.
  if (/^ViT(ImageProcessor|FeatureExtractor)/.test(type)) return 'vit';
  if (/^DeiT(ImageProcessor|FeatureExtractor)/.test(type)) return 'deit';
  throw invalid(`${file}: image_processor_type is ${type}, expected ViTImageProcessor or DeiTImageProcessor`);
}

function extentOf(size: z.infer<typeof sizeSchema>): { height: number; width: number } {
  if (typeof size === 'number') return { height: size, width: size };
  return Array.isArray(size) ? { height: size[0], width: size[1] } : { height: size.height, width: size.width };
}

function byChannel(value: number | number[], channels: number, what: string): number[] {
  const values = typeof value === 'number' ? Array.from({ length: channels }, () => value) : value;
  if (values.length !== channels) throw invalid(`${what} has ${values.length} numbers, expected ${channels}`);
  return values;
}
