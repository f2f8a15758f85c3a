import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { HeartwoodError } from '../errors/error.js';
import { imagePreprocessingSchema, parsePreprocessing, type ImageModel } from './preprocessing.js';

const model = (modelType: string, size = 224, channels: 1 | 3 = 3): ImageModel => ({
  modelType,
  imageSize: { height: size, width: size },
  channels,
});
const parse = (json: unknown, of = model('vit')) => parsePreprocessing(json, 'preprocessor_config.json', of);
const square = (size: number) => ({ height: size, width: size });

describe('preprocessor_config.json', () => {
  it('has the defaults of ViTImageProcessor', () => {
    assert.deepEqual(parse({}), {
      size: square(224),
      resample: 'bilinear',
      resize: true,
      rescale: 1 / 255,
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
      channels: 3,
    });
  });

  it('has the defaults of DeiTImageProcessor: 256, bicubic, and a centre crop to 224', () => {
    const expected = { ...parse({}), size: square(256), resample: 'bicubic', crop: square(224) };
    assert.deepEqual(parse({}, model('deit')), expected);
    assert.deepEqual(parse({ image_processor_type: 'DeiTImageProcessorFast' }), expected);
    // As facebook/deit-base-distilled-patch16-224 has it, in the form of old versions.
    const published = {
      crop_size: 224,
      do_center_crop: true,
      do_normalize: true,
      do_resize: true,
      feature_extractor_type: 'DeiTFeatureExtractor',
      image_mean: [0.485, 0.456, 0.406],
      image_std: [0.229, 0.224, 0.225],
      resample: 3,
      size: 256,
    };
    assert.deepEqual(parse(published, model('deit')), {
      ...expected,
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    });
  });

  it('switches steps off', () => {
    const off = { do_resize: false, do_rescale: false, do_normalize: false, do_center_crop: false };
    const parsed = parse({ ...off, size: square(224) }, model('deit'));
    assert.deepEqual(parsed, { size: square(224), resample: 'bicubic', resize: false, rescale: 0, mean: [0, 0, 0], std: [1, 1, 1], channels: 3 });
  });

  it('when absent is the family at the size of the model', () => {
    assert.deepEqual(parse(undefined, model('vit', 24, 1)), {
      size: square(24),
      resample: 'bilinear',
      resize: true,
      rescale: 1 / 255,
      mean: [0.5],
      std: [0.5],
      channels: 1,
    });
    assert.equal(parse(undefined, model('deit')).resample, 'bicubic');
  });

  it('is refused where it says what cannot be done', () => {
    const cases: [unknown, RegExp][] = [
      [[], /the whole/],
      [{ size: { shortest_edge: 224 } }, /preprocessor_config\.json: size: expected \{"height", "width"\} or a number/],
      [{ size: 0 }, /size/],
      [{ resample: 5 }, /resample: expected 0 \(nearest\)/],
      [{ image_std: [0.5, 0, 0.5] }, /image_std/],
      [{ image_mean: [0.5, 0.5] }, /image_mean has 2 numbers, expected 3/],
      [{ image_processor_type: 'CLIPImageProcessor' }, /is CLIPImageProcessor, expected ViTImageProcessor or DeiTImageProcessor/],
      [{ size: 256 }, /come out as 256×256, expected the image_size of config\.json, 224×224/],
    ];
    for (const [json, pattern] of cases) {
      assert.throws(() => parse(json), (error: unknown) => error instanceof HeartwoodError && pattern.test(error.message));
    }
  });

  it('satisfies the schema by which it is stored', () => {
    for (const parsed of [parse({}), parse({}, model('deit')), parse(undefined)]) {
      assert.deepEqual(imagePreprocessingSchema.parse(parsed), parsed);
    }
  });
});
