import { checkIndex, type Dataset } from '../../data/dataset.js';

/** Samples in memory: pixels [n, …] one after another, a label each or none. */
export function tensorDataset(pixels: Float32Array, labels?: readonly number[], size = labels?.length ?? 1): Dataset {
  const stride = pixels.length / size;
  return {
    name: 'tensors',
    digest: 'tensors',
    size,
    classes: undefined,
    labelled: labels !== undefined,
    async read(index) {
      checkIndex('tensors', index, size);
      const sample = { pixels: pixels.slice(index * stride, (index + 1) * stride), name: `tensors#${index}` };
      return labels ? { ...sample, label: labels[index]! } : sample;
    },
    image: async () => undefined,
  };
}
