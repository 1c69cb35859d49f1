/** Voxels of a scan in RAS order: x runs fastest, as NiiVue keeps what is drawn. */

/** Names of the planes, by the axis that stands on them. */
export const PLANES = ["sagittal", "coronal", "axial"];

export class Grid {
  /**
   * @param {number[]} dims voxels along x, y and z
   * @param {number[]} spacing millimetres from voxel to voxel along each
   */
  constructor(dims, spacing) {
    this.dims = dims;
    this.spacing = spacing;
    this.strides = [1, dims[0], dims[0] * dims[1]];
  }

  get size() {
    return this.dims[0] * this.dims[1] * this.dims[2];
  }

  /** Millilitres of a voxel. */
  get voxelMl() {
    return (this.spacing[0] * this.spacing[1] * this.spacing[2]) / 1000;
  }

  index(voxel) {
    return voxel[0] + voxel[1] * this.strides[1] + voxel[2] * this.strides[2];
  }

  contains(voxel) {
    return voxel.every((value, axis) => value >= 0 && value < this.dims[axis]);
  }

  /** The two axes that lie in a plane, by the axis that stands on it. */
  static inPlane(normal) {
    return [0, 1, 2].filter((axis) => axis !== normal);
  }
}
