"""The OpenGL side of the videos: pyrender, made fast enough for a CPU.

Import this module only in the thread that owns the context, through `core.render.video`: importing it loads PyOpenGL,
which chooses its platform once for the whole process.

What differs from stock pyrender: the vertex buffers stay on the GL side and are overwritten in place, one light
shader instead of physically based materials, planar shadows as a second instance of the same mesh instead of shadow
maps, two panes in one framebuffer, and only the colours are read back.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np

from core import UnavailableError
from core.render.camera import FIELD_OF_VIEW, look_along

SHADER_DIR = Path(__file__).with_name("shaders")
KEY_LIGHT = np.array([-0.45, -1.0, -0.55]) / np.linalg.norm([-0.45, -1.0, -0.55])  # direction in which the light falls
BACKGROUND = (0.918, 0.930, 0.948)  # RGB, also the colour of the fog
COLOR_A = (0.498, 0.651, 0.863)  # RGB, as in the player
COLOR_B = (0.910, 0.659, 0.467)  # RGB
FLOOR_HALF_SIZE_M = 18.0
SHADOW_LIFT_M = 0.006  # above the floor, against depth fighting
SHADOW_SINK = 0.002  # metres lower for each metre of height, so that the darker shadow of lower parts wins

NO_GL = (
    "3D video needs an OpenGL driver: on Linux install libegl1 and libgl1-mesa-dri (or libosmesa6), "
    "elsewhere the graphics driver; the player still works."
)


def _egl_works() -> bool:
    """Whether libEGL is here and can open the default display for desktop OpenGL."""
    try:
        egl = ctypes.CDLL("libEGL.so.1")
    except OSError:
        return False
    egl.eglGetDisplay.restype = ctypes.c_void_p
    egl.eglGetDisplay.argtypes = [ctypes.c_void_p]
    egl.eglInitialize.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    display = egl.eglGetDisplay(None)
    return bool(display and egl.eglInitialize(display, None, None) and egl.eglBindAPI(0x30A2))  # EGL_OPENGL_API


def _osmesa_works() -> bool:
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
            return True
        except OSError:
            continue
    return False


def _choose_platform() -> str:
    """ "egl", "osmesa" or "native". Linux draws without a window even on a desktop; PYOPENGL_PLATFORM overrides."""
    if not sys.platform.startswith("linux"):
        return "native"
    chosen = os.environ.get("PYOPENGL_PLATFORM")
    if chosen is None:
        chosen = "egl" if _egl_works() else "osmesa" if _osmesa_works() else None
    if chosen not in ("egl", "osmesa"):
        raise UnavailableError(NO_GL)
    os.environ["PYOPENGL_PLATFORM"] = chosen
    return chosen


def _import_pyrender() -> ModuleType:
    """pyrender without its window viewer, which would load X11, GLU and pyglet on a machine without a screen."""
    viewer = ModuleType("pyrender.viewer")
    viewer.Viewer = None  # type: ignore[attr-defined]
    sys.modules.setdefault("pyrender.viewer", viewer)
    import pyrender

    return pyrender


PLATFORM = _choose_platform()
pyrender = _import_pyrender()

from OpenGL import GL  # noqa: E402  (after the platform is chosen)
from pyrender import platforms  # noqa: E402
from pyrender.shader_program import ShaderProgramCache  # noqa: E402


class _CglPlatform(platforms.Platform):
    """A window-less context on macOS, where a window may only be made in the main thread."""

    _ATTRIBUTES = (99, 0x3200, 8, 24, 12, 24, 96, 0)  # core profile 3.2, 24 colour bits, 24 depth bits, offline GPUs

    def init_context(self) -> None:
        self._cgl = ctypes.CDLL("/System/Library/Frameworks/OpenGL.framework/OpenGL")
        self._context = ctypes.c_void_p()
        pixel_format, n_formats = ctypes.c_void_p(), ctypes.c_int()
        attributes = (ctypes.c_int * len(self._ATTRIBUTES))(*self._ATTRIBUTES)
        self._cgl.CGLChoosePixelFormat(attributes, ctypes.byref(pixel_format), ctypes.byref(n_formats))
        self._cgl.CGLCreateContext(pixel_format, None, ctypes.byref(self._context))

    def make_current(self) -> None:
        if self._cgl.CGLSetCurrentContext(self._context) != 0:
            raise RuntimeError("CGLSetCurrentContext failed")

    def delete_context(self) -> None:
        self._cgl.CGLDestroyContext(self._context)

    def supports_framebuffers(self) -> bool:
        return True


def open_context() -> platforms.Platform:
    """An offscreen OpenGL context, current in the calling thread. UnavailableError where there is none."""
    kinds = {"egl": platforms.EGLPlatform, "osmesa": platforms.OSMesaPlatform, "native": platforms.PygletPlatform}
    kind = _CglPlatform if sys.platform == "darwin" else kinds[PLATFORM]
    try:
        context = kind(64, 64)  # the size of an unused default buffer; we draw into a framebuffer of our own
        context.init_context()
        context.make_current()
    except Exception as error:
        raise UnavailableError(NO_GL) from error
    return context


def _shadow_matrix() -> np.ndarray:
    """(4, 4) projection along the light onto the floor."""
    matrix = np.eye(4)
    matrix[0, 1] = -KEY_LIGHT[0] / KEY_LIGHT[1]
    matrix[2, 1] = -KEY_LIGHT[2] / KEY_LIGHT[1]
    matrix[1] = (0.0, -SHADOW_SINK, 0.0, SHADOW_LIFT_M)
    return matrix


class LivePrimitive(pyrender.Primitive):
    """A mesh whose vertices change every frame while its buffers stay where they are."""

    def __init__(self, n_vertices: int, faces: np.ndarray, color: tuple[float, float, float]):
        super().__init__(
            positions=np.zeros((n_vertices, 3), np.float32),
            normals=np.zeros((n_vertices, 3), np.float32),
            indices=faces,
            mode=GL.GL_TRIANGLES,
            material=pyrender.MetallicRoughnessMaterial(baseColorFactor=(*color, 1.0)),
            poses=np.stack([np.eye(4), _shadow_matrix()]),
        )

    def update(self, positions_normals: np.ndarray) -> None:
        """Overwrite positions and normals (V, 6) float32, C-contiguous; the mesh must be in the context."""
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, self._buffers[0])
        GL.glBufferSubData(GL.GL_ARRAY_BUFFER, 0, positions_normals.nbytes, positions_normals)
        GL.glBindBuffer(GL.GL_ARRAY_BUFFER, 0)


class PaneRenderer(pyrender.Renderer):
    """pyrender's renderer drawing panes side by side into one framebuffer and reading colours only."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.dpscale = 1  # a framebuffer has no retina pixels
        self._program_cache = ShaderProgramCache(shader_dir=str(SHADER_DIR))
        self._pane = (0, 0, 2, 2)  # x, y, width, height in pixels

    def draw(self, stage: Stage, bodies: list[np.ndarray], cameras: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """One picture of (V, 6) bodies, each in its own pane under its own (4, 4) camera pose.

        Returns (height, width, 3) uint8 RGB, top row first.
        """
        width, height = size
        self.viewport_width, self.viewport_height = width, height
        flags = pyrender.RenderFlags.OFFSCREEN
        self._update_context(stage.scene, flags)
        pane_width = width // len(bodies)
        for i, (body, camera) in enumerate(zip(bodies, cameras, strict=True)):
            stage.show(i, body, camera)
            self._pane = (i * pane_width, 0, pane_width, height)
            self._forward_pass(stage.scene, flags)
        return self._read_colors(width, height)

    def _configure_forward_pass_viewport(self, flags: int) -> None:
        super()._configure_forward_pass_viewport(flags)
        GL.glViewport(*self._pane)
        GL.glEnable(GL.GL_SCISSOR_TEST)  # or clearing the second pane would clear the first
        GL.glScissor(*self._pane)

    def _get_camera_matrices(self, scene):
        node = scene.main_camera_node
        projection = node.camera.get_projection_matrix(width=self._pane[2], height=self._pane[3])
        return np.linalg.inv(scene.get_pose(node)), projection

    def _compute_max_n_lights(self, flags: int) -> list[int]:
        return [1, 0, 0]

    def _bind_lighting(self, scene, program, node, flags: int) -> None:
        super()._bind_lighting(scene, program, node, flags)
        program.set_uniform("fog_color", np.array(BACKGROUND, np.float32))

    def _read_main_framebuffer(self, scene, flags: int) -> None:
        """Called after each pane by the base class; the picture is read once, in `draw`."""

    def _read_colors(self, width: int, height: int) -> np.ndarray:
        GL.glDisable(GL.GL_SCISSOR_TEST)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._main_fb_ms)
        GL.glBindFramebuffer(GL.GL_DRAW_FRAMEBUFFER, self._main_fb)
        corners = (0, 0, width, height)
        GL.glBlitFramebuffer(*corners, *corners, GL.GL_COLOR_BUFFER_BIT, GL.GL_NEAREST)
        GL.glBindFramebuffer(GL.GL_READ_FRAMEBUFFER, self._main_fb)
        GL.glPixelStorei(GL.GL_PACK_ALIGNMENT, 1)
        pixels = np.empty((height, width, 3), np.uint8)
        GL.glReadPixels(0, 0, width, height, GL.GL_RGB, GL.GL_UNSIGNED_BYTE, pixels)
        return pixels[::-1].copy()


class Stage:
    """A floor, a lamp, a camera and up to two bodies of one topology."""

    def __init__(self, n_vertices: int, faces: np.ndarray, n_bodies: int):
        self.scene = pyrender.Scene(bg_color=(*BACKGROUND, 1.0), ambient_light=(0.50, 0.51, 0.54))
        self._primitives = [LivePrimitive(n_vertices, faces, color) for color in (COLOR_A, COLOR_B)[:n_bodies]]
        self._meshes = [pyrender.Mesh([primitive]) for primitive in self._primitives]
        for mesh in self._meshes:
            self.scene.add(mesh)
        self._floor = self.scene.add(pyrender.Mesh([_floor()]))
        self.scene.add(pyrender.DirectionalLight(color=(1.0, 0.98, 0.95), intensity=0.62), pose=look_along(KEY_LIGHT))
        self._camera = self.scene.add(pyrender.PerspectiveCamera(yfov=FIELD_OF_VIEW, znear=0.1, zfar=60.0))

    def show(self, index: int, body: np.ndarray, T_world_camera: np.ndarray) -> None:
        """Leave only body `index` visible, with vertices and normals (V, 6), under the given camera."""
        for i, mesh in enumerate(self._meshes):
            mesh.is_visible = i == index
        self._primitives[index].update(body)
        self.scene.set_pose(self._camera, T_world_camera)
        T_world_floor = np.eye(4)
        T_world_floor[[0, 2], 3] = T_world_camera[[0, 2], 3]
        self.scene.set_pose(self._floor, T_world_floor)


def _floor():
    corners = np.array([[-1, 0, -1], [-1, 0, 1], [1, 0, 1], [1, 0, -1]], np.float32) * FLOOR_HALF_SIZE_M
    return pyrender.Primitive(positions=corners, indices=np.array([[0, 1, 2], [0, 2, 3]]), mode=GL.GL_TRIANGLES)
