/** Who decides what is loaded: `none`, what is there at the start; `poll`, the repository; `explicit`, its callers. */
export const loadControls = ['none', 'poll', 'explicit'] as const;
export type LoadControl = (typeof loadControls)[number];

export interface LoadSettings {
  readonly control: LoadControl;
  /** With explicit control: the models that are loaded at the start; `*` stands for all. */
  readonly atStart: readonly string[];
}

/** Whether a model is brought in step with the repository by a look at it. */
export type Scope = (model: string) => boolean;

export const everyModel: Scope = () => true;
export const noModel: Scope = () => false;

/** What the first look loads. */
export function scopeAtStart({ control, atStart }: LoadSettings): Scope {
  return control !== 'explicit' || atStart.includes('*') ? everyModel : (model) => atStart.includes(model);
}

/** Why a version of the repository that nobody asked to load is not served. */
export const NOT_LOADED = 'it is not loaded';
/** Why a version is not served that somebody asked to unload. */
export const UNLOADED = 'unloaded';
