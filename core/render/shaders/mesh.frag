#version 330 core
// Lambert light from one directional lamp, a hemisphere as ambient light, a checkered floor with fog.

struct DirectionalLight { vec3 color; float intensity; vec3 direction; };
struct Material { vec4 base_color_factor; };

uniform DirectionalLight directional_lights[1];
uniform vec3 ambient_light;
uniform Material material;
uniform vec3 cam_pos;
uniform vec3 fog_color;

in vec3 frag_position;
#ifdef NORMAL_LOC
in vec3 frag_normal;
in float frag_height;
flat in int is_shadow;
#endif

out vec4 frag_color;

const vec3 TILE_LIGHT = vec3(0.865, 0.880, 0.905);
const vec3 TILE_DARK = vec3(0.775, 0.795, 0.830);
const float TILE_M = 0.5;
const float FOG_START_M = 5.0;
const float FOG_END_M = 15.0;

// Checkerboard filtered over the pixel's footprint: no flicker far away.
float checker(vec2 p)
{
    vec2 width = max(fwidth(p), vec2(1e-4));
    vec2 edge = 2.0 * (abs(fract((p - 0.5 * width) * 0.5) - 0.5) - abs(fract((p + 0.5 * width) * 0.5) - 0.5)) / width;
    return 0.5 - 0.5 * edge.x * edge.y;
}

vec3 floor_color(float light)
{
    vec3 color = mix(TILE_DARK, TILE_LIGHT, checker(frag_position.xz / TILE_M)) * light;
    return mix(color, fog_color, smoothstep(FOG_START_M, FOG_END_M, distance(cam_pos, frag_position)));
}

void main()
{
#ifdef NORMAL_LOC
    if (is_shadow == 1) {  // darkest where the body touches the floor
        frag_color = vec4(floor_color(mix(0.58, 0.86, clamp(frag_height / 1.7, 0.0, 1.0))), 1.0);
        return;
    }
    vec3 n = normalize(frag_normal);
    vec3 to_camera = normalize(cam_pos - frag_position);
    float key = 0.75 * max(dot(n, -directional_lights[0].direction), 0.0) + 0.25 * (0.5 + 0.5 * dot(n, to_camera));
    vec3 ambient = ambient_light * mix(vec3(0.62, 0.60, 0.60), vec3(1.0), 0.5 + 0.5 * n.y);
    float rim = pow(1.0 - max(dot(n, to_camera), 0.0), 3.0);
    vec3 light = ambient + directional_lights[0].intensity * directional_lights[0].color * key;
    frag_color = vec4(min(material.base_color_factor.rgb * light + 0.10 * rim, 1.0), 1.0);
#else
    frag_color = vec4(floor_color(1.0), 1.0);
#endif
}
