/** One canvas of NiiVue: a scan, and a mask that lies on it. */

import { DRAG_MODE, MULTIPLANAR_TYPE, NVImage, Niivue, SHOW_RENDER, SLICE_TYPE } from "@niivue/niivue";

import { Grid } from "../editing/grid.js";
import { colourTable } from "./colours.js";

/** What a pane can show. */
export const LAYOUTS = {
  all: SLICE_TYPE.MULTIPLANAR,
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  render: SLICE_TYPE.RENDER,
};
const NORMAL = { [SLICE_TYPE.AXIAL]: 2, [SLICE_TYPE.CORONAL]: 1, [SLICE_TYPE.SAGITTAL]: 0 };
const DRAWING_TEXTURE = 33991; // gl.TEXTURE7, where NiiVue keeps what is drawn
const LEAST_ZOOM = 1;
const MOST_ZOOM = 12;

export class Pane {
  /**
   * @param {HTMLElement} place that the pane fills
   * @param {Object} told
   * @param {(where: {voxel: number[], value: number}) => void} told.onMove the crosshair moved
   * @param {() => void} told.onTurn the view in 3D was turned
   * @param {(range: number[]) => void} told.onWindow a drag changed the window
   */
  constructor(place, { onMove, onTurn, onWindow }) {
    this.place = place;
    this.canvas = document.createElement("canvas");
    this.canvas.setAttribute("aria-label", "Scan and mask");
    place.append(this.canvas);
    this.nv = new Niivue({
      backColor: [0, 0, 0, 1],
      crosshairColor: [0.95, 0.75, 0.2, 0.8],
      crosshairWidthUnit: "mm",
      crosshairWidth: 0.6,
      dragAndDropEnabled: false,
      mouseEventConfig: {
        leftButton: { primary: DRAG_MODE.crosshair, withShift: DRAG_MODE.pan, withCtrl: DRAG_MODE.pan },
        rightButton: DRAG_MODE.contrast,
        centerButton: DRAG_MODE.pan,
      },
      touchEventConfig: { singleTouch: DRAG_MODE.crosshair, doubleTouch: DRAG_MODE.pan },
      isRadiologicalConvention: true, // the patient's left is on the right, as in the overlays of the report
      sagittalNoseLeft: true,
      loadingText: "",
      logLevel: "silent",
      multiplanarLayout: MULTIPLANAR_TYPE.AUTO,
      multiplanarShowRender: SHOW_RENDER.ALWAYS,
      multiplanarPadPixels: 4,
      fontColor: [0.75, 0.75, 0.75, 1],
      clipPlaneHotKey: "",
      cycleClipPlaneHotKey: "",
      viewModeHotKey: "",
      showLegend: false,
    });
    this.grid = null;
    this.scanIn3D = false;
    this.closed = false;
    this.nv.onLocationChange = (at) => onMove({ voxel: at.vox, value: at.values[0]?.value });
    this.nv.onAzimuthElevationChange = onTurn;
    this.nv.onIntensityChange = (volume) => onWindow([volume.cal_min, volume.cal_max]);
  }

  async open() {
    await this.nv.attachToCanvas(this.canvas, true);
    this.drawOncePerFrame();
  }

  /** NiiVue draws at every change, several times where several things change at once. */
  drawOncePerFrame() {
    const draw = this.nv.drawScene.bind(this.nv);
    let waiting = false;
    this.nv.drawScene = () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => {
        waiting = false;
        if (!this.closed) draw();
      });
    };
  }

  close() {
    this.closed = true;
    this.nv.cleanup();
    this.nv.gl.getExtension("WEBGL_lose_context")?.loseContext();
    this.place.replaceChildren();
  }

  /** Show nothing. */
  clear() {
    for (const volume of [...this.nv.volumes]) this.nv.removeVolume(volume);
    if (this.labels) this.nv.closeDrawing();
    this.grid = null;
    this.nv.drawScene();
  }

  /** Show a scan, which panes may share. */
  showScan(image, picture) {
    this.clear();
    this.nv.opts.isOrientationTextVisible = !picture;
    this.nv.addVolume(image);
    const { dimsRAS, pixDimsRAS } = this.nv.volumes[0];
    this.grid = new Grid(dimsRAS.slice(1, 4), pixDimsRAS.slice(1, 4));
    this.nv.createEmptyDrawing();
    this.nv.scene.crosshairPos = this.nv.vox2frac(this.grid.dims.map((size) => Math.floor(size / 2)));
    this.resetView();
  }

  resetView() {
    this.nv.scene.pan2Dxyzmm = [0, 0, 0, 1];
    this.nv.drawScene();
  }

  /** Show a mask: values in RAS order, which the caller keeps and may change. */
  showMask(labels) {
    this.nv.drawBitmap = labels;
    this.nv.refreshDrawing(true);
  }

  get labels() {
    return this.nv.drawBitmap;
  }

  /** Send changed slices to the graphics card: those from one to another, from feet to head. */
  refreshSlices(first, last) {
    const { gl } = this.nv;
    const [x, y] = this.grid.dims;
    gl.activeTexture(DRAWING_TEXTURE);
    gl.bindTexture(gl.TEXTURE_3D, this.nv.drawTexture);
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
    const part = this.labels.subarray(first * x * y, (last + 1) * x * y);
    gl.texSubImage3D(gl.TEXTURE_3D, 0, 0, 0, first, x, y, last - first + 1, gl.RED, gl.UNSIGNED_BYTE, part);
    this.nv.drawScene();
  }

  showStructures(structures) {
    this.nv.drawLut = { lut: colourTable(structures), labels: [] };
    this.refreshScan();
  }

  setOpacity(share) {
    this.nv.setDrawOpacity(share);
  }

  setWindow([low, high]) {
    const [volume] = this.nv.volumes;
    volume.cal_min = low;
    volume.cal_max = high;
    this.refreshScan();
  }

  setLayout(layout) {
    this.nv.setSliceType(LAYOUTS[layout]);
  }

  /** Show the scan in 3D too, or the mask alone. */
  setScanIn3D(shown) {
    this.scanIn3D = shown;
    this.refreshScan();
  }

  /** Send windows and colours to the graphics card. The scan's opacity in 3D alone is none of NiiVue's options. */
  refreshScan() {
    const { nv } = this;
    nv.updateGLVolume();
    nv.renderShader.use(nv.gl);
    nv.gl.uniform1f(nv.renderShader.uniforms.backOpacity, this.scanIn3D ? 1 : 0);
    nv.drawScene();
  }

  /** What lies under a place of the window: a voxel, and the axis that stands on the slice; null outside of slices. */
  voxelAt(clientX, clientY) {
    if (!this.grid) return null;
    const [x, y] = this.canvasPlace(clientX, clientY);
    const tile = this.nv.tileIndex(x, y);
    const normal = NORMAL[this.nv.screenSlices[tile]?.axCorSag];
    if (normal === undefined) return null;
    const share = this.nv.screenXY2TextureFrac(x, y, tile, false);
    if (!(share[0] >= 0)) return null;
    const exact = this.grid.dims.map((size, axis) => share[axis] * size - 0.5);
    const voxel = exact.map((value) => Math.round(value));
    voxel[normal] = this.crosshair()[normal];
    exact[normal] = voxel[normal];
    return this.grid.contains(voxel) ? { voxel, exact, normal, tile } : null;
  }

  /** Pixels of the window that a millimetre takes in a tile. */
  pixelsPerMm(tile) {
    const { leftTopWidthHeight, fovMM } = this.nv.screenSlices[tile];
    return leftTopWidthHeight[2] / fovMM[0] / this.nv.uiData.dpr;
  }

  canvasPlace(clientX, clientY) {
    const box = this.canvas.getBoundingClientRect();
    return [(clientX - box.left) * this.nv.uiData.dpr, (clientY - box.top) * this.nv.uiData.dpr];
  }

  crosshair() {
    return Array.from(this.nv.frac2vox(this.nv.scene.crosshairPos));
  }

  /** The axis of the file along which axial slices lie, from 1; negative where it runs from head to feet. */
  get headFoot() {
    return this.nv.volumes[0].permRAS[2];
  }

  moveTo(voxel) {
    this.nv.scene.crosshairPos = this.nv.vox2frac(voxel);
    this.nv.createOnLocationChange();
    this.nv.drawScene();
  }

  /** Go some slices further along an axis. */
  step(normal, slices) {
    if (!this.grid) return;
    const voxel = this.crosshair();
    voxel[normal] = Math.min(this.grid.dims[normal] - 1, Math.max(0, voxel[normal] + slices));
    this.moveTo(voxel);
  }

  /** Show the slices larger or smaller, around the crosshair. */
  zoom(factor) {
    if (!this.grid) return;
    const { scene } = this.nv;
    const before = scene.pan2Dxyzmm[3];
    const after = Math.min(MOST_ZOOM, Math.max(LEAST_ZOOM, before * factor));
    if (after === LEAST_ZOOM) scene.pan2Dxyzmm = [0, 0, 0, 1];
    else {
      const mm = this.nv.frac2mm(scene.crosshairPos);
      for (let axis = 0; axis < 3; axis++) scene.pan2Dxyzmm[axis] += (before - after) * mm[axis];
      scene.pan2Dxyzmm[3] = after;
    }
    this.nv.drawScene();
  }

  /** Take over where another pane looks. */
  follow(other) {
    const mm = other.nv.frac2mm(other.nv.scene.crosshairPos);
    this.nv.scene.crosshairPos = this.nv.mm2frac(mm);
    this.nv.scene.pan2Dxyzmm = Array.from(other.nv.scene.pan2Dxyzmm);
    this.nv.scene.renderAzimuth = other.nv.scene.renderAzimuth;
    this.nv.scene.renderElevation = other.nv.scene.renderElevation;
    this.nv.drawScene();
  }

  /** The mask as a NIfTI file on the grid of the scan as it was sent. */
  async maskFile() {
    return this.nv.volumes[0].saveToDisk("", this.labels);
  }
}

/** Read a NIfTI file. */
export function readImage(bytes, name) {
  return NVImage.new(bytes, name, "gray");
}

/** Put the values of a mask into RAS order, or say how its grid differs from the scan's. */
export function labelsOf(pane, mask) {
  const [scan] = pane.nv.volumes;
  const same = [1, 2, 3].every((k) => mask.hdr.dims[k] === scan.hdr.dims[k]);
  const near = mask.hdr.affine.flat().every((value, k) => Math.abs(value - scan.hdr.affine.flat()[k]) < 1e-2);
  if (!same || !near) throw new Error("the mask lies on another grid than the scan: it cannot be shown on it");
  pane.nv.loadDrawing(mask);
  return pane.labels;
}
