// One orbit camera for all views. Drag turns, wheel and pinch zoom, shift-drag and two fingers pan, double click resets.

const FIELD_OF_VIEW = (26 * Math.PI) / 180;
const VIEW_HEIGHT_M = 2.45; // what a view shows at least around a standing body
const VIEW_WIDTH_M = 1.75;
const TARGET_HEIGHT_M = 0.99; // middle between the floor and a raised hand
const HOME = { yaw: 0.36, pitch: 0.16, zoom: 1, panX: 0, panY: 0, panZ: 0, follow: 1 };
const LIMITS = { pitch: [0.03, 1.45], zoom: [0.3, 4], panX: [-3, 3], panY: [-0.9, 1.5], panZ: [-3, 3] };
const EASE_PER_S = 16; // how fast the drawn camera approaches the wanted one

class OrbitCamera {
  constructor(calm) {
    this.calm = calm; // true: no easing (prefers-reduced-motion)
    this.goal = { ...HOME };
    this.now = { ...HOME };
  }

  reset() {
    this.goal = { ...HOME, follow: this.goal.follow };
  }

  turn(dx, dy) {
    this.set({ yaw: this.goal.yaw - dx, pitch: this.goal.pitch + dy });
  }

  // Returns false at the end of the range, so that the page may scroll on.
  zoomBy(factor) {
    const before = this.goal.zoom;
    this.set({ zoom: before * factor });
    return this.goal.zoom !== before;
  }

  // right, up: metres in the plane of the screen
  pan(right, up) {
    const { yaw, panX, panY, panZ } = this.goal;
    this.set({ panX: panX + Math.cos(yaw) * right, panZ: panZ - Math.sin(yaw) * right, panY: panY + up });
  }

  set(wanted) {
    for (const [name, value] of Object.entries(wanted)) {
      const limit = LIMITS[name];
      this.goal[name] = limit ? clamp(value, limit[0], limit[1]) : value;
    }
  }

  // Ease towards the goal; true while something still moves.
  step(seconds) {
    const share = this.calm ? 1 : 1 - Math.exp(-EASE_PER_S * seconds);
    let moving = false;
    for (const name of Object.keys(this.goal)) {
      const gap = this.goal[name] - this.now[name];
      if (Math.abs(gap) < 0.0005) this.now[name] = this.goal[name];
      else {
        this.now[name] += gap * share;
        moving = true;
      }
    }
    return moving;
  }

  // Metres across one pixel at the target's depth.
  metresPerPixel(heightPixels, aspect) {
    return (2 * this.distance(aspect, [0, 0]) * Math.tan(FIELD_OF_VIEW / 2)) / heightPixels;
  }

  // So far away that bodies spread over extent [x, z] (metres of ground around the target) fit into the view.
  distance(aspect, extent) {
    const { yaw, zoom } = this.now, c = Math.abs(Math.cos(yaw)), s = Math.abs(Math.sin(yaw));
    const across = extent[0] * c + extent[1] * s;
    const deep = extent[0] * s + extent[1] * c;
    const height = Math.max(VIEW_HEIGHT_M, (VIEW_WIDTH_M + across) / aspect);
    return zoom * (height / 2 / Math.tan(FIELD_OF_VIEW / 2) + deep / 2);
  }

  // followed, resting: {at: [x, z], extent: [x, z]} that the following and the resting camera look at.
  view(followed, resting, aspect) {
    const { yaw, pitch, follow, panX, panY, panZ } = this.now;
    const between = (name, k) => mix(resting[name][k], followed[name][k], follow);
    const target = [between("at", 0) + panX, TARGET_HEIGHT_M + panY, between("at", 1) + panZ];
    const extent = [between("extent", 0), between("extent", 1)];
    const distance = this.distance(aspect, extent);
    const flat = Math.cos(pitch) * distance;
    const height = Math.max(0.06, target[1] + Math.sin(pitch) * distance);
    const eye = [target[0] + Math.sin(yaw) * flat, height, target[2] + Math.cos(yaw) * flat];
    const projection = perspective(FIELD_OF_VIEW, aspect, Math.max(0.05, distance * 0.05), distance * 4 + 30);
    const viewProjection = multiply(projection, lookAt(eye, target));
    return { eye, centre: [target[0], target[2]], reach: 6 + distance * 0.7, viewProjection };
  }
}

// Connect mouse, pen and touch on `stage` to the camera. onMove is called after every change; returns a function that
// disconnects.
function bindPointers(stage, camera, metresPerPixel, onMove) {
  const fingers = new Map(); // pointer id -> last position
  const down = (event) => {
    if (event.button > 2 || event.target.closest("button, a")) return;
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (stage.setPointerCapture) stage.setPointerCapture(event.pointerId);
    stage.dataset.grabbed = "";
  };
  const move = (event) => {
    const last = fingers.get(event.pointerId);
    if (!last) return;
    const dx = event.clientX - last[0], dy = event.clientY - last[1];
    const scale = metresPerPixel();
    if (fingers.size === 2) {
      pinch(fingers, event, camera);
      camera.pan((-dx * scale) / 2, (dy * scale) / 2);
    } else if (event.shiftKey || event.buttons & 6) camera.pan(-dx * scale, dy * scale);
    else camera.turn(dx * 0.008, dy * 0.006);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    onMove();
  };
  const up = (event) => {
    fingers.delete(event.pointerId);
    if (!fingers.size) delete stage.dataset.grabbed;
  };
  const wheel = (event) => {
    const lines = event.deltaMode === 1 ? 16 : 1;
    if (camera.zoomBy(Math.exp(clamp(event.deltaY * lines, -120, 120) * 0.0015))) event.preventDefault();
    onMove();
  };
  const reset = () => {
    camera.reset();
    onMove();
  };
  const pairs = { pointerdown: down, pointermove: move, pointerup: up, pointercancel: up, wheel, dblclick: reset };
  for (const [name, handler] of Object.entries(pairs)) stage.addEventListener(name, handler, { passive: false });
  return () => Object.entries(pairs).forEach(([name, handler]) => stage.removeEventListener(name, handler));
}

function pinch(fingers, event, camera) {
  const [, other] = [...fingers].find(([id]) => id !== event.pointerId);
  const last = fingers.get(event.pointerId);
  const before = Math.hypot(last[0] - other[0], last[1] - other[1]);
  const after = Math.hypot(event.clientX - other[0], event.clientY - other[1]);
  if (before > 4 && after > 4) camera.zoomBy(before / after);
}
