/**
 * Weights that are read once a token come through the page tables as well: of 4 KiB pages a model has hundreds of thousands, and in a virtual
 * machine a miss costs two walks. The C library asks for huge pages (where /sys/kernel/mm/transparent_hugepage/enabled says `madvise` or
 * `always`) only when it is told so before it starts: https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html
 */
const variable = 'GLIBC_TUNABLES';
const tunable = 'glibc.malloc.hugetlb';

/**
 * The environment of a process that is to hold models in huge pages: decoding with pythia-160m in float32 was a fifth to a quarter faster on a
 * 2-core virtual machine. What the environment says of it already stays. Other C libraries do not know the variable.
 */
export function withHugePages(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const known = environment[variable];
  if (known?.includes(tunable)) return environment;
  return { ...environment, [variable]: [...(known ? [known] : []), `${tunable}=1`].join(':') };
}
